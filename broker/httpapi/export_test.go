package httpapi

import (
	"net"

	"github.com/labstack/echo/v4"
)

// Labels returns what the routes of an API are counted as.
func Labels(a *API) []string {
	var all []string
	for _, l := range a.labels {
		all = append(all, l)
	}
	return all
}

// Routes are what the two ports answer: :: port → routes.
func (a *API) Routes() map[string][]*echo.Route {
	return map[string][]*echo.Route{"public": a.public.echo.Routes(), "admin": a.admin.echo.Routes()}
}

// Classes are the codes of the error table.
func Classes() []string {
	var codes []string
	for _, row := range table() {
		codes = append(codes, string(row.class))
	}
	return codes
}

// Patient makes a connection's deadlines cheap.
func Patient(c net.Conn) net.Conn { return newPatient(c) }
