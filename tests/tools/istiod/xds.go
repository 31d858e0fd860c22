package main

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	fake "istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/test"
)

type xdsRequest struct {
	// YAML, several documents each: Kubernetes' objects, and Istio's.
	Kubernetes, Config string
	// MeshConfig, YAML.
	Mesh    string
	Proxies map[string]proxy
}

type proxy struct {
	ID             string `json:"id"`
	Type           string `json:"type"` // sidecar or router
	IP             string `json:"ip"`
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"service_account"`
	Labels         map[string]string
}

type given struct {
	Listeners []json.RawMessage `json:"listeners"`
	Clusters  []json.RawMessage `json:"clusters"`
	Routes    []json.RawMessage `json:"routes"`
	Endpoints []json.RawMessage `json:"endpoints"`
}

// generated has istiod generate what each proxy is given, with EnvoyFilters applied, from the objects
// of a cluster. The objects come from memory instead of an API server; the rest is istiod's.
func generated(request []byte) (any, error) {
	var asked xdsRequest
	if err := decode(request, &asked); err != nil {
		return nil, err
	}
	if err := known(asked.Config); err != nil {
		return nil, err
	}
	config, err := meshConfig(asked.Mesh)
	if err != nil {
		return nil, err
	}
	answer := map[string]*given{}
	failed := error(nil)
	err = test.Wrap(func(t test.Failer) {
		server := fake.NewFakeDiscoveryServer(t, fake.FakeOptions{
			KubernetesObjectString: asked.Kubernetes,
			ConfigString:           asked.Config,
			MeshConfig:             config,
		})
		for name, each := range asked.Proxies {
			if answer[name], failed = give(server, each); failed != nil {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return answer, failed
}

func meshConfig(yaml string) (*meshconfig.MeshConfig, error) {
	if yaml == "" {
		return mesh.DefaultMeshConfig(), nil
	}
	return mesh.ApplyMeshConfigDefaults(yaml)
}

// known refuses objects that istiod would leave out without a word.
func known(config string) error {
	if config == "" {
		return nil
	}
	_, others, err := crd.ParseInputs(config)
	if err != nil {
		return err
	}
	for _, each := range others {
		return fmt.Errorf("%s %s is none of Istio's objects", each.Kind, each.Name)
	}
	return nil
}

func give(server *fake.FakeDiscoveryServer, each proxy) (*given, error) {
	node := server.SetupProxy(&model.Proxy{
		ID:              each.ID,
		Type:            model.NodeType(each.Type),
		IPAddresses:     []string{each.IP},
		ConfigNamespace: each.Namespace,
		Labels:          each.Labels,
		Metadata: &model.NodeMetadata{
			IstioVersion:   "1.32.0",
			Namespace:      each.Namespace,
			Labels:         each.Labels,
			ServiceAccount: each.ServiceAccount,
			ClusterID:      "Kubernetes",
		},
	})
	listeners := server.Listeners(node)
	answer := &given{}
	var errs [4]error
	answer.Listeners, errs[0] = protojsons(listeners)
	answer.Clusters, errs[1] = protojsons(server.Clusters(node))
	answer.Routes, errs[2] = protojsons(server.RoutesFromListeners(node, listeners))
	answer.Endpoints, errs[3] = protojsons(server.Endpoints(node))
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return answer, nil
}

func protojsons[M proto.Message](messages []M) ([]json.RawMessage, error) {
	all := []json.RawMessage{}
	for _, each := range messages {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(each)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, nil
}
