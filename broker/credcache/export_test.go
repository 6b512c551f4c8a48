package credcache

// Settle returns when no call ahead of need is under way. Nothing may be asked
// meanwhile.
func (c *Cache) Settle() { c.background.Wait() }

// HeldBytes is what the entries are counted as.
func HeldBytes(c *Cache) int64 { return c.held.bytes }
