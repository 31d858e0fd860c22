package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admission "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pkg/config/mesh/meshwatcher"
	"istio.io/istio/pkg/kube/inject"
	"istio.io/istio/pkg/kube/multicluster"
)

type injectRequest struct {
	// Of the injector, with its templates, and the chart's values: as the ConfigMap
	// istio-sidecar-injector has them, YAML.
	Config, Values string
	// MeshConfig, YAML.
	Mesh      string
	Namespace string
	Pod       json.RawMessage
}

// injected has the injector's webhook look at a pod, and applies what it answers, as Kubernetes
// would. ENABLE_NATIVE_SIDECARS in the environment is istiod's own switch.
func injected(request []byte) (any, error) {
	var asked injectRequest
	if err := decode(request, &asked); err != nil {
		return nil, err
	}
	webhook, err := injector(asked)
	if err != nil {
		return nil, err
	}
	pod, err := sent(asked.Pod)
	if err != nil {
		return nil, err
	}
	patch, err := reviewed(webhook, asked.Namespace, pod)
	if err != nil {
		return nil, err
	}
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, err
	}
	made, err := operations.Apply(pod)
	return json.RawMessage(made), err
}

// sent is the pod as an API server sends it to webhooks: with the empty fields of its type.
func sent(pod []byte) ([]byte, error) {
	typed, err := kubernetesObject(pod)
	if err != nil {
		return nil, err
	}
	return json.Marshal(typed)
}

func injector(asked injectRequest) (http.Handler, error) {
	config, err := meshConfig(asked.Mesh)
	if err != nil {
		return nil, err
	}
	parsed, err := inject.UnmarshalConfig([]byte(asked.Config))
	if err != nil {
		return nil, err
	}
	environment := model.NewEnvironment()
	environment.Watcher = meshwatcher.NewTestWatcher(config)
	mux := http.NewServeMux()
	_, err = inject.NewWebhook(inject.WebhookParameters{
		Watcher:      fixed{&parsed, asked.Values},
		Env:          environment,
		Mux:          mux,
		MultiCluster: multicluster.NewFakeController(),
	})
	return mux, err
}

// fixed is a configuration that does not change.
type fixed struct {
	config *inject.Config
	values string
}

func (f fixed) Get() (*inject.Config, string, error)          { return f.config, f.values, nil }
func (f fixed) SetHandler(func(*inject.Config, string) error) {}
func (f fixed) Run(<-chan struct{})                           {}

func reviewed(webhook http.Handler, namespace string, pod []byte) ([]byte, error) {
	review, err := json.Marshal(admission.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admission.AdmissionRequest{
			UID: "1", Namespace: namespace, Operation: admission.Create,
			Object: runtime.RawExtension{Raw: pod},
		},
	})
	if err != nil {
		return nil, err
	}
	request := httptest.NewRequest(http.MethodPost, "/inject", bytes.NewReader(review))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	webhook.ServeHTTP(recorder, request)
	var answer admission.AdmissionReview
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
		return nil, fmt.Errorf("the webhook: %w", err)
	}
	if answer.Response == nil {
		return nil, fmt.Errorf("the webhook: %s", recorder.Body)
	}
	if !answer.Response.Allowed {
		return nil, fmt.Errorf("the webhook: %s", answer.Response.Result.Message)
	}
	if len(answer.Response.Patch) == 0 {
		return nil, errors.New("the webhook leaves this pod alone")
	}
	return answer.Response.Patch, nil
}
