package cprecover

// #include <stdint.h>
// #include <stddef.h>
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// Level is how important a log line is.
type Level int32

// The levels, the most important first.
const (
	LevelError Level = 1
	LevelWarn  Level = 2
	LevelInfo  Level = 3
	LevelDebug Level = 4
	LevelTrace Level = 5
)

// LogFunc gets one log line of a call, on the goroutine that made the call: the part of the library that
// wrote it and its text. It must not close the node, nor end its goroutine.
type LogFunc func(level Level, target, message string)

// sink is where the lines of one call go.
type sink struct {
	log LogFunc
	// panicked is what the callback panicked with: it must not unwind through C.
	panicked any
}

//export cprecoverGoLog
func cprecoverGoLog(user C.uintptr_t, level C.int32_t, target *C.char, targetLen C.size_t, message *C.char, messageLen C.size_t) {
	s := cgo.Handle(user).Value().(*sink)
	if s.panicked != nil {
		return
	}
	defer func() { s.panicked = recover() }()
	s.log(Level(level), text(target, targetLen), text(message, messageLen))
}

func text(ptr *C.char, len C.size_t) string {
	if ptr == nil || len == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(unsafe.Pointer(ptr)), int(len)))
}
