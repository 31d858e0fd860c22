package main

import (
	"bytes"
	"encoding/json"
	"strings"

	"sigs.k8s.io/yaml"

	"istio.io/istio/operator/pkg/helm"
	"istio.io/istio/operator/pkg/manifest"
	"istio.io/istio/operator/pkg/render"
	"istio.io/istio/operator/pkg/util/clog"
	"istio.io/istio/operator/pkg/values"
	"istio.io/istio/pkg/log"
)

type installRequest struct {
	// Files with an IstioOperator each; what a later one says holds.
	Files []string
}

type chartRequest struct {
	// A directory below Istio's charts, such as istio-control/istio-discovery.
	Chart              string
	Release, Namespace string
	// YAML.
	Values string
}

type installation struct {
	Objects []json.RawMessage `json:"objects"`
	// A line each.
	Warnings []string `json:"warnings"`
}

// installed is what `istioctl install` would send, of the charts that Istio carries itself.
func installed(request []byte) (any, error) {
	var asked installRequest
	if err := decode(request, &asked); err != nil {
		return nil, err
	}
	var warnings bytes.Buffer
	console := clog.NewConsoleLogger(&warnings, &warnings, log.FindScope(log.DefaultScopeName))
	sets, _, err := render.GenerateManifest(asked.Files, nil, false, nil, console)
	if err != nil {
		return nil, err
	}
	var all []manifest.Manifest
	for _, set := range sets {
		all = append(all, set.Manifests...)
	}
	return installationOf(all, strings.FieldsFunc(warnings.String(), func(r rune) bool { return r == '\n' }))
}

// charted is what `helm install` would send, of one of these charts.
func charted(request []byte) (any, error) {
	var asked chartRequest
	if err := decode(request, &asked); err != nil {
		return nil, err
	}
	var given map[string]any
	if err := yaml.UnmarshalStrict([]byte(asked.Values), &given); err != nil {
		return nil, err
	}
	all, warned, err := helm.Render(
		asked.Release, asked.Namespace, asked.Chart, values.MakeMap(given, "spec", "values"), nil,
	)
	if err != nil {
		return nil, err
	}
	warnings := []string{}
	for _, each := range warned {
		warnings = append(warnings, each.Error())
	}
	return installationOf(all, warnings)
}

func installationOf(manifests []manifest.Manifest, warnings []string) (any, error) {
	answer := installation{Objects: []json.RawMessage{}, Warnings: warnings}
	for _, each := range manifests {
		object, err := each.MarshalJSON()
		if err != nil {
			return nil, err
		}
		answer.Objects = append(answer.Objects, object)
	}
	return answer, nil
}
