package config

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// schema is a JSON Schema, or a part of one.
type schema map[string]any

// What a text in the file may look like, as regular expressions that ECMAScript
// and Go read alike. None is narrower than the reader's own rule, which has the
// last word: an editor must not refuse what the broker takes.
const (
	addressForm  = `:[^:]+$`
	cidrForm     = `/[0-9]{1,3}$`
	urlForm      = `^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]`
	sharedForm   = `^([Rr][Ee][Dd][Ii][Ss]|[Vv][Aa][Ll][Kk][Ee][Yy])[Ss]?://[^/?#]`
	originForm   = `^https?://[^/?#@A-Z]+$`
	durationForm = `^\+?([0-9]*\.?[0-9]*(ns|us|µs|μs|ms|s|m|h))+$`
	regionForm   = `^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`
	roleForm     = `^arn:(aws|aws-cn|aws-us-gov):iam::[0-9]{12}:role/[!-~]+$`
	kmsForm      = `^arn:(aws|aws-cn|aws-us-gov):kms:[a-z]{2}(-[a-z]+)+-[0-9]{1,2}:[0-9]{12}:key/[A-Za-z0-9-]{1,64}$`
	nameForm     = `^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`
	bucketForm   = `^[a-z0-9-]*(\{tenant\})?[a-z0-9-]*$`
	prefixForm   = `^(([A-Za-z0-9_.=@-]+|\{tenant\}|\{user\})/)+$`
	numberForm   = `^[+-]?[0-9]+$`
	booleanForm  = `^(true|false)?$`
	nothing      = `^$`   // an optional text may be empty
	variableForm = `\$\{` // it is filled in when the broker reads it
)

// exact bounds the whole numbers that every reader of JSON holds exactly.
const exact = int64(1) << 53

// form is the schema of one text.
func form(pattern ...string) schema {
	return schema{"type": "string", "pattern": strings.Join(append(pattern, variableForm), "|")}
}

// oneOf is the schema of one text out of several.
func oneOf(texts ...string) schema {
	return schema{"type": "string", "anyOf": []schema{{"enum": texts}, {"pattern": variableForm}}}
}

// notEmpty is the schema of a text that says something.
func notEmpty() schema { return schema{"type": "string", "minLength": 1} }

// whole is the schema of a whole number, which may be written as a text.
func whole(least, most int64) schema {
	return schema{"type": []string{"integer", "string"}, "minimum": least, "maximum": most, "pattern": numberForm + "|" + variableForm}
}

// listOf is the schema of a list, which may be written as one text with commas.
// What is given twice in it is refused, if it is a set.
func listOf(element schema, set bool) schema {
	s := schema{"type": []string{"array", "string"}, "items": element}
	if set {
		s["uniqueItems"] = true
	}
	return s
}

// filled is a list that must not be empty.
func filled(list schema) schema {
	list["minItems"], list["minLength"] = 1, 1
	return list
}

// value is the schema of a key's value: most go by their type, and these by name.
func (k Key) value() schema { //nolint:funlen // a table
	switch k.Path {
	case "issuers[].audiences":
		return filled(listOf(notEmpty(), true))
	case "issuers[].algorithms":
		return filled(listOf(oneOf("RS256", "RS384", "RS512", "ES256", "ES384", "ES512"), false))
	case "issuers[].jwks_url", "web_identity.issuer", "sts.endpoint":
		return form(urlForm, nothing)
	case "shared_cache.url":
		return form(sharedForm, nothing)
	case "web_identity.audience", "audit.output":
		return notEmpty()
	case "sts.max_concurrent":
		return whole(1, 1024)
	case "cache.entries":
		return whole(1, 10_000_000)
	case "limits.token_bytes":
		return whole(256, 8192)
	case "limits.per_subject_per_minute", "limits.per_tenant_per_minute", "limits.per_address_failures_per_minute", "limits.sts_per_second":
		return whole(1, 1_000_000)
	case "audit.hash":
		return listOf(oneOf("subject", "address"), true)
	case "grants[].name":
		return form(nameForm)
	case "grants[].match.permissions", "grants[].match.scopes":
		s := listOf(notEmpty(), true)
		s["minLength"] = 1 // a variable without a value would make every token match
		return s
	case "grants[].match.claims":
		return schema{"type": "object", "additionalProperties": schema{"type": []string{"string", "boolean", "integer", "null"}, "minimum": -exact, "maximum": exact}}
	case "grants[].access":
		return filled(listOf(oneOf("list", "read", "write", "delete"), true))
	case "grants[].kms_key_arn":
		return form(kmsForm, nothing)
	}
	switch k.Type {
	case "address":
		return form(addressForm)
	case "boolean":
		return schema{"type": []string{"boolean", "string"}, "pattern": booleanForm + "|" + variableForm}
	case "URL":
		return form(urlForm)
	case "duration":
		return form(durationForm, nothing)
	case "region":
		return form(regionForm)
	case "ARN":
		return form(roleForm)
	case "bucket":
		return form(bucketForm)
	case "prefix":
		return form(prefixForm)
	case "`minted` or `forwarded`":
		return oneOf(Minted, Forwarded)
	case "list of CIDRs":
		return listOf(form(cidrForm), false)
	case "list of origins":
		return listOf(form(originForm), false)
	case "list of regions":
		return listOf(form(regionForm), true)
	case "list", "list of files":
		return listOf(notEmpty(), true)
	case "text", "file", "claim", "regular expression":
		return schema{"type": "string"}
	default:
		panic("shouldn't happen: no schema for " + k.Path + ", a " + k.Type)
	}
}

// schema is that of the key: its value's, or that of what is inside, with what the
// documentation says of it.
func (k Key) schema() schema {
	var s schema
	switch {
	case k.Path != "grants[].match.claims" && k.Type == "mapping":
		s = object(k.Path)
	case node{key: k.Path}.ofMappings():
		s = schema{"type": "array", "items": object(k.Path + "[]")}
	default:
		s = k.value()
	}
	if k.Doc != "" {
		s["description"] = k.Doc
	}
	if k.Default == Required {
		if s["type"] == "array" {
			s["minItems"] = 1
		}
		return s
	}
	if k.Default != "" {
		s["default"] = k.typed()
	}
	// A key without a value is an absent one.
	switch types := s["type"].(type) {
	case string:
		s["type"] = []string{types, "null"}
	case []string:
		s["type"] = append(types, "null")
	}
	if of, ok := s["anyOf"].([]schema); ok {
		s["anyOf"] = append(of, schema{"type": "null"})
	}
	return s
}

// typed is the key's default as it would stand in the file.
func (k Key) typed() any {
	switch k.Type {
	case "number":
		n, err := strconv.Atoi(k.Default)
		if err != nil {
			panic("shouldn't happen: the default of " + k.Path + ": " + err.Error())
		}
		return n
	case "boolean":
		return k.Default == "true"
	case "list":
		return []string{k.Default}
	default:
		return k.Default
	}
}

// object is the schema of a mapping: its keys and no others.
func object(path string) schema {
	properties, required := schema{}, []string{}
	for _, k := range Keys() {
		if parent, name := parentOf(k.Path); parent == path {
			properties[name] = k.schema()
			if k.Default == Required {
				required = append(required, name)
			}
		}
	}
	s := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	switch path {
	case "web_identity":
		s["if"] = schema{"required": []string{"mode"}, "properties": schema{"mode": schema{"const": Minted}}}
		s["then"] = schema{"required": []string{"issuer", "signing_keys"}}
	case "grants[].tenant":
		s["anyOf"] = []schema{{"required": []string{"claim"}}, {"required": []string{"request"}}}
	}
	return s
}

// Schema returns the JSON Schema (2020-12) of the file, for editors and for checks
// before the broker is at hand. It is made of Keys. It knows the form of each
// value; what relates values to each other, and what the environment fills in, only
// Parse knows: what the schema refuses Parse refuses too, and not the other way
// round.
func Schema() ([]byte, error) {
	s := object("")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "credential-broker's configuration"
	s["description"] = "A value may hold ${NAME} or ${NAME:-default}, filled in from the environment. A list of texts may be one text with commas."
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(s)
	return out.Bytes(), err
}
