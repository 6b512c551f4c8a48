package idtoken

import "log/slog"

// ParseObject is parseObject.
func ParseObject(data []byte) (map[string]any, error) { return parseObject(data) }

// TestKey is what a key is.
type TestKey struct {
	Alg        string
	Thumbprint string
	Public     any
}

// ParseKeySet is parseKeySet.
func ParseKeySet(data []byte, log *slog.Logger) (map[string]TestKey, error) {
	keys, err := parseKeySet(data, log)
	if err != nil {
		return nil, err
	}
	out := map[string]TestKey{}
	for kid, k := range keys {
		out[kid] = TestKey{k.alg, k.thumbprint, k.public}
	}
	return out, nil
}

// Remembered is how many good tokens are remembered.
func (v *Verifier) Remembered() int { return v.memo.good.Len() }

// Hold takes all turns at the gate, and returns how many there are.
func (v *Verifier) Hold() (places int, release func()) {
	for range cap(v.gate) {
		v.gate <- struct{}{}
	}
	return cap(v.gate), func() {
		for range cap(v.gate) {
			<-v.gate
		}
	}
}
