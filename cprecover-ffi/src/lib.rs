//! C ABI of cprecover.
