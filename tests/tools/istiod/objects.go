package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	kubejson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
	"istio.io/istio/pkg/kube"
)

// documents are those of a YAML stream that say anything, as JSON.
func documents(stream string) ([]json.RawMessage, error) {
	var all []json.RawMessage
	decoder := kubeyaml.NewYAMLOrJSONDecoder(strings.NewReader(stream), 1<<20)
	for {
		var object json.RawMessage
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(object) > 0 && string(object) != "null" {
			all = append(all, object)
		}
	}
}

// istioObject reads one of Istio's objects. Istio itself drops fields that it does not know; here
// they are errors, for a misspelt one would be a test of something else.
func istioObject(object json.RawMessage) (config.Config, resource.Schema, error) {
	var parsed crd.IstioKind
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&parsed); err != nil {
		return config.Config{}, nil, err
	}
	kind := parsed.GroupVersionKind()
	schema, known := collections.PilotGatewayAPI().
		FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&kind))
	if !known {
		return config.Config{}, nil, fmt.Errorf("%s %s: none of Istio's objects", parsed.Kind, parsed.Name)
	}
	converted, err := crd.ConvertObjectInternal(schema, &parsed, "", strict)
	if err != nil {
		return config.Config{}, nil, fmt.Errorf("%s %s: %w", parsed.Kind, parsed.Name, err)
	}
	return *converted, schema, nil
}

func strict(schema resource.Schema, text string) (config.Spec, error) {
	spec, err := schema.NewInstance()
	if err != nil {
		return nil, err
	}
	return spec, config.ApplyJSONStrict(spec, text)
}

var kubernetes = kubejson.NewSerializerWithOptions(
	kubejson.DefaultMetaFactory, kube.IstioScheme, kube.IstioScheme,
	kubejson.SerializerOptions{Strict: true},
)

// kubernetesObject reads one of Kubernetes' objects, as strictly.
func kubernetesObject(object json.RawMessage) (runtime.Object, error) {
	decoded, kind, err := kubernetes.Decode(object, nil, nil)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(kind.Group, "istio.io") {
		return nil, fmt.Errorf("%s: Istio's objects are not read from Kubernetes' here", kind.Kind)
	}
	return decoded, nil
}
