package versitygw

import (
	"net"
)

// isolated reports whether Address belongs to this process's network.
func isolated() bool {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(net.ParseIP(Address)) {
			return true
		}
	}
	return false
}
