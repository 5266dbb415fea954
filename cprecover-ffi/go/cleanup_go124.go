//go:build go1.24

package cprecover

import "runtime"

// closeWhenUnreachable frees what the program forgot to close.
func closeWhenUnreachable[T any](object *T, c *cell) {
	runtime.AddCleanup(object, (*cell).close, c)
}
