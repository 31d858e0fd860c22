// Istio's own code, as the tests ask it: what is installed, what its injector makes of a pod, what
// istiod gives a proxy, whether it accepts an object, what its agent makes of a socket; and what
// kustomize makes of a directory.
//
//	istiod install|chart|inject|xds|validate|kustomize|agent < request.json > answer.json
//
// A request that cannot be answered ends with one line on standard error and exit code 1.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"istio.io/istio/pkg/log"
)

// Each reads its request and returns what becomes the answer.
var commands = map[string]func(request []byte) (any, error){
	"install":   installed,
	"chart":     charted,
	"inject":    injected,
	"xds":       generated,
	"validate":  validated,
	"kustomize": built,
	"agent":     looked,
}

func main() {
	answers := os.Stdout
	// Whatever Istio prints goes where it does not mix with the answer.
	os.Stdout = os.Stderr
	quiet := log.DefaultOptions()
	quiet.OutputPaths = []string{"stderr"}
	quiet.SetDefaultOutputLevel(log.OverrideScopeName, log.ErrorLevel)
	if err := log.Configure(quiet); err != nil {
		fail(err)
	}
	answer, err := run(os.Args[1:])
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(answers).Encode(answer); err != nil {
		fail(err)
	}
}

func run(arguments []string) (any, error) {
	if len(arguments) != 1 || commands[arguments[0]] == nil {
		return nil, errors.New("usage: istiod install|chart|inject|xds|validate|kustomize|agent < request.json")
	}
	request, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	return commands[arguments[0]](request)
}

// decode takes no field that it does not know: a misspelt one would be a test of something else.
func decode(request []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(request))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	return nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, strings.Join(strings.Fields(err.Error()), " "))
	os.Exit(1)
}
