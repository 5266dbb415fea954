module github.com/cprecover/cprecover/cprecover-ffi/go

go 1.19
