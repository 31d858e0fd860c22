package main

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	objects, err := documents(asked.Config)
	if err != nil {
		return nil, err
	}
	verdicts := []verdict{}
	for _, object := range objects {
		said, err := judged(object)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, said)
	}
	return verdicts, nil
}

func judged(object json.RawMessage) (verdict, error) {
	var head metav1.PartialObjectMetadata
	if err := json.Unmarshal(object, &head); err != nil {
		return verdict{}, fmt.Errorf("not an object: %w", err)
	}
	said := verdict{Kind: head.Kind, Namespace: head.Namespace, Name: head.Name}
	parsed, schema, err := istioObject(object)
	if err != nil {
		said.Error = err.Error()
		return said, nil
	}
	warning, err := schema.ValidateConfig(parsed)
	if warning != nil {
		said.Warning = warning.Error()
	}
	if err != nil {
		said.Error = err.Error()
	}
	return said, nil
}
