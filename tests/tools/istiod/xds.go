package main

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/model"
	fake "istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
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
	objects, configs, err := read(asked)
	if err != nil {
		return nil, err
	}
	settings, err := meshConfig(asked.Mesh)
	if err != nil {
		return nil, err
	}
	answer := map[string]*given{}
	failed := error(nil)
	err = test.Wrap(func(t test.Failer) {
		server := fake.NewFakeDiscoveryServer(t, fake.FakeOptions{
			KubernetesObjects: objects,
			Configs:           configs,
			MeshConfig:        settings,
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

// read takes what istiod would take, and refuses what it would leave out without a word.
func read(asked xdsRequest) (objects []runtime.Object, configs []config.Config, err error) {
	for name, each := range asked.Proxies {
		if kind := model.NodeType(each.Type); kind != model.SidecarProxy && kind != model.Router {
			return nil, nil, fmt.Errorf("proxy %s: type %q is neither sidecar nor router", name, each.Type)
		}
	}
	texts, err := documents(asked.Kubernetes)
	if err != nil {
		return nil, nil, err
	}
	for _, each := range texts {
		object, err := kubernetesObject(each)
		if err != nil {
			return nil, nil, err
		}
		objects = append(objects, object)
	}
	configs, err = accepted(asked.Config)
	return objects, configs, err
}

// accepted are the objects of a YAML stream, where Istio's validation accepts them all.
func accepted(stream string) ([]config.Config, error) {
	texts, err := documents(stream)
	if err != nil {
		return nil, err
	}
	var configs []config.Config
	for _, each := range texts {
		parsed, schema, err := istioObject(each)
		if err != nil {
			return nil, err
		}
		if _, err := schema.ValidateConfig(parsed); err != nil {
			return nil, fmt.Errorf("%s %s: %w", parsed.GroupVersionKind.Kind, parsed.Name, err)
		}
		configs = append(configs, parsed)
	}
	return configs, nil
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
