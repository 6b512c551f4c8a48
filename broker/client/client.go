// Package client holds the browser helper: credentials from the broker for the
// AWS SDK for JavaScript, Uppy and Amplify. The file that the broker serves is the
// one that stands here and in the npm package; nothing is built.
package client

import _ "embed" // the helper is part of the binary

//go:embed client.js
var js string

// JS returns the helper, an ES module.
func JS() []byte { return []byte(js) }
