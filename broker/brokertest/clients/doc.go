// Package clients holds the tests of deploy/clients.md: every snippet of that page
// is a file that is run here, by the real client in its own language, against the
// real service, a local Auth0 and a local AWS. There is no code to import.
package clients
