package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// provider answers for one schema. What it does not need is left to the embedded
// interface, which is nil: a call to it would stop the program.
type provider struct {
	tfprotov6.ProviderServer

	schema  *tfprotov6.GetProviderSchemaResponse
	answers map[string]map[string]any // :: resource or data.resource → attribute → answer
}

func newProvider(schemaFile, answersFile string) (*provider, error) {
	var s schemas
	if err := read(schemaFile, &s); err != nil {
		return nil, err
	}
	p := &provider{schema: &tfprotov6.GetProviderSchemaResponse{
		ServerCapabilities: &tfprotov6.ServerCapabilities{},
		ResourceSchemas:    map[string]*tfprotov6.Schema{}, DataSourceSchemas: map[string]*tfprotov6.Schema{},
		Functions: map[string]*tfprotov6.Function{}, EphemeralResourceSchemas: map[string]*tfprotov6.Schema{},
	}}
	var errs []error
	convert := func(name string, s schema) *tfprotov6.Schema {
		out, err := s.protocol()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", schemaFile, name, err))
		}
		return out
	}
	p.schema.Provider = convert("provider", s.Provider)
	for name, r := range s.Resources {
		p.schema.ResourceSchemas[name] = convert(name, r)
	}
	for name, d := range s.DataSources {
		p.schema.DataSourceSchemas[name] = convert(name, d)
	}
	if answersFile != "" {
		errs = append(errs, read(answersFile, &p.answers))
	}
	return p, errors.Join(errs...)
}

func read(file string, into any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (p *provider) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	out := &tfprotov6.GetMetadataResponse{ServerCapabilities: p.schema.ServerCapabilities}
	for name := range p.schema.ResourceSchemas {
		out.Resources = append(out.Resources, tfprotov6.ResourceMetadata{TypeName: name})
	}
	for name := range p.schema.DataSourceSchemas {
		out.DataSources = append(out.DataSources, tfprotov6.DataSourceMetadata{TypeName: name})
	}
	return out, nil
}

func (p *provider) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return p.schema, nil
}

func (p *provider) GetResourceIdentitySchemas(context.Context, *tfprotov6.GetResourceIdentitySchemasRequest) (*tfprotov6.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov6.GetResourceIdentitySchemasResponse{}, nil
}

func (p *provider) GetFunctions(context.Context, *tfprotov6.GetFunctionsRequest) (*tfprotov6.GetFunctionsResponse, error) {
	return &tfprotov6.GetFunctionsResponse{}, nil
}

func (p *provider) ValidateProviderConfig(_ context.Context, r *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: r.Config}, nil
}

func (p *provider) ConfigureProvider(context.Context, *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	return &tfprotov6.ConfigureProviderResponse{}, nil
}

func (p *provider) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func (p *provider) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

func (p *provider) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

func (p *provider) UpgradeResourceState(_ context.Context, r *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	t := p.schema.ResourceSchemas[r.TypeName].ValueType()
	v, err := r.RawState.Unmarshal(t)
	if err != nil {
		return nil, err
	}
	d, err := tfprotov6.NewDynamicValue(t, v)
	return &tfprotov6.UpgradeResourceStateResponse{UpgradedState: &d}, err
}

func (p *provider) ReadResource(_ context.Context, r *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	return &tfprotov6.ReadResourceResponse{NewState: r.CurrentState}, nil
}

// PlanResourceChange leaves open what only the cloud would know.
func (p *provider) PlanResourceChange(_ context.Context, r *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	s := p.schema.ResourceSchemas[r.TypeName]
	d, err := computed(s, r.ProposedNewState, func(t tftypes.Type, _ string, _ map[string]tftypes.Value) (tftypes.Value, error) {
		return tftypes.NewValue(t, tftypes.UnknownValue), nil
	})
	return &tfprotov6.PlanResourceChangeResponse{PlannedState: d}, err
}

func (p *provider) ApplyResourceChange(_ context.Context, r *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	d, err := computed(p.schema.ResourceSchemas[r.TypeName], r.PlannedState, p.answer(r.TypeName))
	return &tfprotov6.ApplyResourceChangeResponse{NewState: d}, err
}

func (p *provider) ReadDataSource(_ context.Context, r *tfprotov6.ReadDataSourceRequest) (*tfprotov6.ReadDataSourceResponse, error) {
	d, err := computed(p.schema.DataSourceSchemas[r.TypeName], r.Config, p.answer("data."+r.TypeName))
	return &tfprotov6.ReadDataSourceResponse{State: d}, err
}

// fill gives a computed attribute its value.
type fill func(t tftypes.Type, name string, siblings map[string]tftypes.Value) (tftypes.Value, error)

// computed fills the computed attributes, outside of blocks, that nobody has set.
// An object that is to be destroyed has none.
func computed(s *tfprotov6.Schema, object *tfprotov6.DynamicValue, fill fill) (*tfprotov6.DynamicValue, error) {
	t := s.ValueType()
	v, err := object.Unmarshal(t)
	if err != nil || v.IsNull() {
		return object, err
	}
	var all map[string]tftypes.Value
	if err := v.As(&all); err != nil {
		return nil, err
	}
	for _, a := range s.Block.Attributes {
		if old := all[a.Name]; a.Computed && (old.IsNull() || !old.IsKnown()) {
			if all[a.Name], err = fill(a.Type, a.Name, all); err != nil {
				return nil, fmt.Errorf("%s: %w", a.Name, err)
			}
		}
	}
	d, err := tfprotov6.NewDynamicValue(t, tftypes.NewValue(t, all))
	return &d, err
}

// answer is what stands among the answers, or something made up: a text is the
// attribute's name and a digest of what is known of the object.
func (p *provider) answer(name string) fill {
	return func(t tftypes.Type, attribute string, siblings map[string]tftypes.Value) (tftypes.Value, error) {
		if given, ok := p.answers[name][attribute]; ok {
			return value(t, given, siblings)
		}
		switch {
		case t.Is(tftypes.String):
			sum := sha256.Sum256([]byte(name + fmt.Sprint(texts(siblings))))
			return tftypes.NewValue(t, attribute+"-"+hex.EncodeToString(sum[:6])), nil
		case t.Is(tftypes.Number):
			return tftypes.NewValue(t, 0), nil
		case t.Is(tftypes.Bool):
			return tftypes.NewValue(t, false), nil
		default:
			return tftypes.NewValue(t, nil), nil
		}
	}
}

// value makes a value of an answer.
func value(t tftypes.Type, given any, siblings map[string]tftypes.Value) (tftypes.Value, error) {
	switch given := given.(type) {
	case string:
		for name, text := range texts(siblings) {
			given = strings.ReplaceAll(given, "{"+name+"}", strings.TrimPrefix(text, "https://"))
		}
		return tftypes.NewValue(t, given), nil
	case float64:
		return tftypes.NewValue(t, big.NewFloat(given)), nil
	case bool:
		return tftypes.NewValue(t, given), nil
	case []any:
		var element tftypes.Type
		switch l := t.(type) {
		case tftypes.List:
			element = l.ElementType
		case tftypes.Set:
			element = l.ElementType
		default:
			return tftypes.Value{}, fmt.Errorf("a list for %s", t)
		}
		var all []tftypes.Value
		for _, g := range given {
			v, err := value(element, g, siblings)
			if err != nil {
				return tftypes.Value{}, err
			}
			all = append(all, v)
		}
		return tftypes.NewValue(t, all), nil
	default:
		return tftypes.Value{}, fmt.Errorf("an answer of type %T", given)
	}
}

// texts are the attributes that are known text.
func texts(siblings map[string]tftypes.Value) map[string]string {
	all := map[string]string{}
	for name, v := range siblings {
		var text string
		if v.Type().Is(tftypes.String) && v.IsKnown() && !v.IsNull() && v.As(&text) == nil {
			all[name] = text
		}
	}
	return all
}
