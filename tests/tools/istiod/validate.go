package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config/schema/collections"
)

type validateRequest struct {
	// Istio's objects, YAML, several documents.
	Config string
}

type verdict struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Warning   string `json:"warning"`
	Error     string `json:"error"`
}

// validated says of each object what istiod's validating webhook would say.
func validated(request []byte) (any, error) {
	var asked validateRequest
	if err := decode(request, &asked); err != nil {
		return nil, err
	}
	verdicts := []verdict{}
	documents := kubeyaml.NewYAMLOrJSONDecoder(strings.NewReader(asked.Config), 1<<20)
	for {
		var object json.RawMessage
		if err := documents.Decode(&object); errors.Is(err, io.EOF) {
			return verdicts, nil
		} else if err != nil {
			return nil, err
		}
		said, err := judged(object)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, said)
	}
}

func judged(object json.RawMessage) (verdict, error) {
	var head metav1.PartialObjectMetadata
	if err := json.Unmarshal(object, &head); err != nil {
		return verdict{}, err
	}
	said := verdict{Kind: head.Kind, Namespace: head.Namespace, Name: head.Name}
	configs, others, err := crd.ParseInputs(string(object))
	switch {
	case err != nil:
		said.Error = err.Error()
	case len(others) > 0:
		said.Error = "none of Istio's objects"
	}
	for _, each := range configs {
		schema, _ := collections.PilotGatewayAPI().FindByGroupVersionKind(each.GroupVersionKind)
		if warning, _ := schema.ValidateConfig(each); warning != nil {
			said.Warning = warning.Error()
		}
	}
	return said, nil
}
