package main

import (
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

type kustomizeRequest struct {
	Directory string
}

// built is what `kubectl apply -k` would send.
func built(request []byte) (any, error) {
	var asked kustomizeRequest
	if err := decode(request, &asked); err != nil {
		return nil, err
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
		Run(filesys.MakeFsOnDisk(), asked.Directory)
	if err != nil {
		return nil, err
	}
	yaml, err := resources.AsYaml()
	return map[string]string{"yaml": string(yaml)}, err
}
