package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// ErrClosed is what calls on a closed object return.
var ErrClosed = errors.New("cprecover: closed")

// Code says what kind of failure an Error is. Codes are errors: errors.Is(err, ErrBusy).
type Code int32

// The codes, as the library's header explains them.
const (
	ErrPanic         Code = C.CPR_E_PANIC
	ErrArgument      Code = C.CPR_E_ARGUMENT
	ErrHandle        Code = C.CPR_E_HANDLE
	ErrBusy          Code = C.CPR_E_BUSY
	ErrUnsupported   Code = C.CPR_E_UNSUPPORTED
	ErrNotFound      Code = C.CPR_E_NOT_FOUND
	ErrAlreadyExists Code = C.CPR_E_ALREADY_EXISTS
	ErrPermission    Code = C.CPR_E_PERMISSION
	ErrInvalid       Code = C.CPR_E_INVALID
	ErrCorrupt       Code = C.CPR_E_CORRUPT
	ErrChanged       Code = C.CPR_E_CHANGED
	ErrRefused       Code = C.CPR_E_REFUSED
	ErrTimeout       Code = C.CPR_E_TIMEOUT
	ErrCancelled     Code = C.CPR_E_CANCELLED
	ErrLimit         Code = C.CPR_E_LIMIT
	ErrNoSpace       Code = C.CPR_E_NO_SPACE
	ErrReadOnly      Code = C.CPR_E_READ_ONLY
	ErrMissing       Code = C.CPR_E_MISSING
	ErrPeer          Code = C.CPR_E_PEER
	ErrPolicy        Code = C.CPR_E_POLICY
	ErrIO            Code = C.CPR_E_IO
	ErrInternal      Code = C.CPR_E_INTERNAL
)

// Error returns the code's name, such as "not-found".
func (c Code) Error() string { return C.GoString(C.cpr_status_name(C.cpr_status(c))) }

// Error is a failure of the library; errors.As finds it.
type Error struct {
	// Code is the kind of failure.
	Code Code
	// Errno is the operating system's error behind it, 0 where there is none.
	Errno syscall.Errno
	// Message is one line that names the file, port or pid.
	Message string
	// context is why the call's context ended it, nil when it did not.
	context error
}

// Error returns message and code.
func (e *Error) Error() string { return fmt.Sprintf("cprecover: %s (%s)", e.Message, e.Code.Error()) }

// Is reports whether the failure is of a Code, or was caused by the call's context.
func (e *Error) Is(target error) bool {
	if code, ok := target.(Code); ok {
		return e.Code == code
	}
	return e.context != nil && errors.Is(e.context, target)
}

// Unwrap returns the operating system's error, nil where there is none.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// take turns a status and its error object into a Go error and frees the object.
func take(ctx context.Context, status C.cpr_status, object *C.cpr_error) error {
	if status == C.CPR_OK {
		return nil
	}
	err := &Error{Code: Code(status), Message: "no details"}
	if object != nil {
		err.Errno = syscall.Errno(C.cpr_error_os_error(object))
		err.Message = C.GoString(C.cpr_error_message(object))
		C.cpr_error_free(object)
	}
	if err.Code == ErrCancelled || err.Code == ErrTimeout {
		err.context = ended(ctx)
	}
	return err
}
