// Command stub is a Terraform provider that has a schema and nothing behind it:
// resources live in the state only. With it `tofu validate`, `plan`, `apply` and
// `test` check names, types, blocks and references of a configuration without
// the real provider, and without a cloud.
//
// It is called as the provider that it stands for (terraform-provider-aws) and
// reads that provider's schema, in the form that `tofu providers schema -json`
// prints, from aws.json in the folder STUB_SCHEMAS. What a cloud would answer
// stands in STUB_ANSWERS, a file of JSON: for "aws_x", or "data.aws_x", by
// attribute. In an answer {name} is the attribute of that name, without https://.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
)

func main() {
	if err := run(filepath.Base(os.Args[0])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(program string) error {
	name, ok := strings.CutPrefix(program, "terraform-provider-")
	if !ok {
		return fmt.Errorf("%s: call it terraform-provider-NAME", program)
	}
	p, err := newProvider(filepath.Join(os.Getenv("STUB_SCHEMAS"), name+".json"), os.Getenv("STUB_ANSWERS"))
	if err != nil {
		return err
	}
	return tf6server.Serve("registry.opentofu.org/stub/"+name, func() tfprotov6.ProviderServer { return p })
}
