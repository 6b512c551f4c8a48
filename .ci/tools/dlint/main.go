// Command dlint runs the rules of `docker build --check`, BuildKit's own, on a
// Dockerfile, with no daemon and no registry. It prints what they find and exits 1
// if that is anything.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// offline stands in for a registry: the rules look at the file, not at its base images.
type offline struct{}

func (offline) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, digest.FromString(ref), []byte(`{"architecture":"amd64","os":"linux","config":{}}`), nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dlint:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	if len(files) != 1 {
		return errors.New("give one Dockerfile")
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	sources := llb.NewSourceMap(nil, files[0], "Dockerfile", data)
	sources.Definition = &llb.Definition{}
	results, err := dockerfile2llb.DockerfileLint(context.Background(), data, dockerfile2llb.ConvertOpt{
		SourceMap: sources, MetaResolver: offline{},
	})
	if err != nil {
		return err
	}
	if results.Error == nil && len(results.Warnings) == 0 {
		return nil
	}
	if err := results.PrintTo(os.Stdout, func(in *pb.SourceInfo) *pb.SourceInfo { return in }); err != nil {
		return err
	}
	return fmt.Errorf("%d warning(s)", len(results.Warnings))
}
