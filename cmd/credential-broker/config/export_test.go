package config

// Unwatched is what is noted on a system of the signing keys' modes.
func Unwatched(w WebIdentity, system string) []string { return unwatched(w, system) }
