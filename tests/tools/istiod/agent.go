package main

import (
	"context"
	"os"
	_ "unsafe" // for linkname

	_ "istio.io/istio/pkg/istio-agent"
	"istio.io/istio/pkg/uds"
)

// checkSocket is not exported, and all that the agent's start asks of the socket is in it.
//
//go:linkname checkSocket istio.io/istio/pkg/istio-agent.checkSocket
func checkSocket(ctx context.Context, path string) (bool, error)

type agentRequest struct {
	Path string
	// And serve there where nothing is found, as the agent does under the default name.
	Serve bool
}

// looked is what the agent finds at a path. It deletes and makes what the agent would.
func looked(request []byte) (any, error) {
	var asked agentRequest
	if err := decode(request, &asked); err != nil {
		return nil, err
	}
	found, refused := checkSocket(context.Background(), asked.Path)
	_, gone := os.Lstat(asked.Path)
	answer := map[string]any{"found": found, "error": "", "there": gone == nil, "serves": false}
	if refused != nil {
		answer["error"] = refused.Error()
	} else if !found && asked.Serve {
		if listener, err := uds.NewListener(asked.Path); err == nil {
			defer listener.Close()
			answer["serves"] = true
		}
	}
	return answer, nil
}
