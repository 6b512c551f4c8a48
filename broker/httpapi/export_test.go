package httpapi

// Labels returns what the routes of an API are counted as.
func Labels(a *API) []string {
	var all []string
	for _, l := range a.labels {
		all = append(all, l)
	}
	return all
}
