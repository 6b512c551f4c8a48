package auditlog

import (
	_ "embed"
)

//go:embed record.schema.json
var recordSchema string

// Schema returns the JSON Schema (2020-12) of a record, of version
// broker.RecordVersion.
func Schema() string { return recordSchema }
