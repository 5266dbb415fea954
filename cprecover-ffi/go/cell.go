package cprecover

import (
	"sync"
	"unsafe"
)

// cell owns one handle of the C library and counts the calls that use it, so that closing waits for them.
type cell struct {
	mu     sync.Mutex
	idle   *sync.Cond
	users  int
	closed bool
	ptr    unsafe.Pointer
	free   func(unsafe.Pointer)
}

func newCell(ptr unsafe.Pointer, free func(unsafe.Pointer)) *cell {
	c := &cell{ptr: ptr, free: free}
	c.idle = sync.NewCond(&c.mu)
	return c
}

// begin returns the handle for one call; end must follow.
func (c *cell) begin() (unsafe.Pointer, error) {
	if c == nil {
		return nil, ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	c.users++
	return c.ptr, nil
}

func (c *cell) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users--
	if c.users == 0 {
		c.idle.Broadcast()
	}
}

// close waits for running calls and frees the handle, once.
func (c *cell) close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.users > 0 {
		c.idle.Wait()
	}
	if c.ptr != nil {
		c.free(c.ptr)
		c.ptr = nil
	}
}
