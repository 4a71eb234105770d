package tree

// ResolveByWalking makes r do without openat2(2), as on an old kernel.
func ResolveByWalking(r *Root) { r.walk = true }
