#pragma once
#include <stddef.h>
#include <sys/types.h>

/* TLS over blocking sockets, by the system's OpenSSL. Pointers are opaque to Swift. */

/* A server's context from PEM files, or NULL with the reason in `error`. TLS 1.2 and later. */
void *ctls_make_context(const char *certificate, const char *key, char *error, size_t error_size);
void ctls_free_context(void *context);
/* Shakes hands; NULL when that fails. */
void *ctls_accept(void *context, int socket);
/* Bytes read or written; 0 at the peer's end; -1 for an error, -2 for the socket's timeout. */
ssize_t ctls_read(void *connection, void *buffer, size_t size);
ssize_t ctls_write(void *connection, const void *buffer, size_t size);
void ctls_close(void *connection);
