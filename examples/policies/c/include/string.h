// Freestanding: only what the generated bindings use.
#pragma once
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
size_t strlen(const char *text);
