module github.com/cprecover/cprecover/examples/go

go 1.19

require github.com/cprecover/cprecover/cprecover-ffi/go v0.0.0

replace github.com/cprecover/cprecover/cprecover-ffi/go => ../../cprecover-ffi/go
