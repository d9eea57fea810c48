#include "ctls.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>

void *ctls_make_context(const char *certificate, const char *key, char *error, size_t error_size) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context && SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1
        && SSL_CTX_use_certificate_chain_file(context, certificate) == 1
        && SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(context) == 1) {
        /* Idle connections give their buffers back. */
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
        return context;
    }
    ERR_error_string_n(ERR_get_error(), error, error_size);
    if (context) SSL_CTX_free(context);
    return NULL;
}

void ctls_free_context(void *context) { SSL_CTX_free(context); }

void *ctls_accept(void *context, int socket) {
    ERR_clear_error();
    SSL *connection = SSL_new(context);
    if (!connection) return NULL;
    if (SSL_set_fd(connection, socket) == 1 && SSL_accept(connection) == 1) return connection;
    SSL_free(connection);
    return NULL;
}

static ssize_t outcome(SSL *connection, int done) {
    if (done > 0) return done;
    int saved = errno;
    switch (SSL_get_error(connection, done)) {
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return -2;
    case SSL_ERROR_SYSCALL: return saved == EAGAIN || saved == EWOULDBLOCK ? -2 : -1;
    default: return -1;
    }
}

ssize_t ctls_read(void *connection, void *buffer, size_t size) {
    ERR_clear_error();
    return outcome(connection, SSL_read(connection, buffer, size > 1 << 30 ? 1 << 30 : (int)size));
}

ssize_t ctls_write(void *connection, const void *buffer, size_t size) {
    ERR_clear_error();
    return outcome(connection, SSL_write(connection, buffer, size > 1 << 30 ? 1 << 30 : (int)size));
}

void ctls_close(void *connection) {
    SSL_shutdown(connection);
    SSL_free(connection);
}
