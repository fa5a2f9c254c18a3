/* Sends mail as many mail clients would: TLS, login, a new connection per message. And a server that takes it.
 *
 *   submission_load send HOST PORT CONNECTIONS MESSAGES OCTETS LOGIN PASSWORD RECIPIENT
 *   submission_load take PORT THREADS CERTIFICATE KEY
 *
 * `send` prints one JSON object: messages, seconds, cpu_seconds, failures, and how long a whole session took.
 * `take` accepts everything and stores nothing: what `send` does against it is the most that `send` can do.
 * One thread per connection with blocking sockets. Commands are not pipelined; the certificate is not verified, and
 * sessions are never resumed, so that every message costs one full handshake.
 *
 * It runs on the same processors as what is measured, so it is built with BoringSSL: with the OpenSSL 3.0 of Debian 12,
 * whose client decodes each certificate anew at great length, it took twice as much. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define LINE_OCTETS 2048
#define PATIENCE_SECONDS 20

typedef struct {
    int descriptor;
    SSL *tls;
    char buffer[8192];
    int have, at;
} Wire;

static SSL_CTX *context;

static void give_up(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void no_delay(int descriptor) {
    int yes = 1;
    struct timeval patience = {PATIENCE_SECONDS, 0};
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

static int put(Wire *wire, const char *data, int length) {
    while (length > 0) {
        int sent = wire->tls ? SSL_write(wire->tls, data, length) : (int)write(wire->descriptor, data, (size_t)length);
        if (sent <= 0) return 0;
        data += sent;
        length -= sent;
    }
    return 1;
}

static int get_octet(Wire *wire) {
    if (wire->at == wire->have) {
        int got = wire->tls ? SSL_read(wire->tls, wire->buffer, sizeof wire->buffer)
                            : (int)read(wire->descriptor, wire->buffer, sizeof wire->buffer);
        if (got <= 0) return -1;
        wire->have = got;
        wire->at = 0;
    }
    return (unsigned char)wire->buffer[wire->at++];
}

static int get_line(Wire *wire, char *line) {
    int length = 0;
    while (length < LINE_OCTETS - 1) {
        int octet = get_octet(wire);
        if (octet < 0) return 0;
        line[length++] = (char)octet;
        if (octet == '\n') break;
    }
    line[length] = 0;
    return length;
}

/* One reply, all its lines; true when it has the code. */
static int expect(Wire *wire, const char *code) {
    char line[LINE_OCTETS];
    do {
        if (get_line(wire, line) < 5) return 0;
    } while (line[3] == '-');
    if (!strncmp(line, code, 3)) return 1;
    fprintf(stderr, "expected %s, got %s", code, line);
    return 0;
}

static int say(Wire *wire, const char *code, const char *format, ...) {
    char line[LINE_OCTETS];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return length < (int)sizeof line && put(wire, line, length) && expect(wire, code);
}

/* ---- send ---- */

static struct sockaddr_in target;
static const char *login, *recipient;
static char secret[LINE_OCTETS], *padding;
static int messages, octets, unique;
static atomic_int taken, failures;
static double *sessions;

static int dialogue(Wire *wire, int number, char *message) {
    if (!expect(wire, "220") || !say(wire, "250", "EHLO client.example\r\n") || !say(wire, "220", "STARTTLS\r\n"))
        return 0;
    wire->tls = SSL_new(context);
    if (!wire->tls || !SSL_set_fd(wire->tls, wire->descriptor)) return 0;
    SSL_set_tlsext_host_name(wire->tls, "relay.bench.example");
    if (SSL_connect(wire->tls) != 1) return 0;
    if (!say(wire, "250", "EHLO client.example\r\n") || !say(wire, "235", "AUTH PLAIN %s\r\n", secret)) return 0;
    if (!say(wire, "250", "MAIL FROM:<%s>\r\n", login) || !say(wire, "250", "RCPT TO:<%s>\r\n", recipient)) return 0;
    if (!say(wire, "354", "DATA\r\n")) return 0;
    int head = snprintf(message, (size_t)octets + LINE_OCTETS,
                        "Date: Mon, 05 Jan 2026 10:00:00 +0000\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: benchmark\r\n"
                        "Message-ID: <%d.%d@client.example>\r\nMIME-Version: 1.0\r\n\r\n",
                        login, recipient, unique, number);
    int body = octets > head ? octets - head : 0;
    if (body % 72 == 71) body--; /* no bare CR before the end */
    memcpy(message + head, padding, (size_t)body);
    memcpy(message + head + body, "\r\n.\r\n", 5);
    return put(wire, message, head + body + 5) && expect(wire, "250") && say(wire, "221", "QUIT\r\n");
}

static void *sender(void *unused) {
    char *message = malloc((size_t)octets + 2 * LINE_OCTETS);
    Wire *wire = malloc(sizeof *wire);
    int number;
    while ((number = atomic_fetch_add(&taken, 1)) < messages) {
        double begin = now();
        memset(wire, 0, offsetof(Wire, buffer));
        wire->have = wire->at = 0;
        wire->descriptor = socket(AF_INET, SOCK_STREAM, 0);
        no_delay(wire->descriptor);
        int sent = !connect(wire->descriptor, (struct sockaddr *)&target, sizeof target) &&
                   dialogue(wire, number, message);
        if (!sent) atomic_fetch_add(&failures, 1);
        if (wire->tls) {
            if (sent) SSL_shutdown(wire->tls);
            SSL_free(wire->tls);
        }
        close(wire->descriptor);
        sessions[number] = now() - begin;
        ERR_clear_error();
    }
    free(wire);
    free(message);
    return unused;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void send_all(char **words) {
    int connections = atoi(words[2]);
    messages = atoi(words[3]);
    octets = atoi(words[4]);
    login = words[5];
    recipient = words[7];
    unique = (int)getpid();
    target.sin_family = AF_INET;
    target.sin_port = htons((unsigned short)atoi(words[1]));
    if (inet_pton(AF_INET, words[0], &target.sin_addr) != 1 || connections < 1 || connections > 1000 || messages < 1)
        give_up("arguments");
    unsigned char plain[512];
    int length = snprintf((char *)plain, sizeof plain, "%c%s%c%s", 0, login, 0, words[6]);
    EVP_EncodeBlock((unsigned char *)secret, plain, length);
    padding = malloc((size_t)octets + 1);
    for (int place = 0; place < octets; place++)
        padding[place] = place % 72 == 70 ? '\r' : place % 72 == 71 ? '\n' : 'x';
    sessions = calloc((size_t)messages, sizeof *sessions);
    context = SSL_CTX_new(TLS_client_method());
    if (!context) give_up("TLS");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);

    pthread_t threads[1000];
    double begin = now();
    for (int one = 0; one < connections; one++)
        if (pthread_create(&threads[one], NULL, sender, NULL)) give_up("thread");
    for (int one = 0; one < connections; one++) pthread_join(threads[one], NULL);
    double seconds = now() - begin;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    qsort(sessions, (size_t)messages, sizeof *sessions, ascending);
    printf("{\"messages\": %d, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"failures\": %d, "
           "\"session_median\": %.6f, \"session_95\": %.6f}\n",
           messages, seconds,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
           atomic_load(&failures), sessions[messages / 2], sessions[messages * 95 / 100]);
}

/* ---- take ---- */

static int listener;

static void take_one(Wire *wire) {
    char line[LINE_OCTETS];
    int length;
    if (!put(wire, "220 trivial ESMTP\r\n", 19)) return;
    while ((length = get_line(wire, line))) {
        const char *reply = "250 ok\r\n";
        if (!strncmp(line, "EHLO", 4)) reply = wire->tls ? "250-trivial\r\n250 AUTH PLAIN\r\n" : "250-t\r\n250 STARTTLS\r\n";
        if (!strncmp(line, "AUTH", 4)) reply = "235 ok\r\n";
        if (!strncmp(line, "QUIT", 4)) reply = "221 ok\r\n";
        if (!strncmp(line, "STARTTLS", 8)) reply = "220 ok\r\n";
        if (!strncmp(line, "DATA", 4)) {
            if (!put(wire, "354 ok\r\n", 8)) return;
            while ((length = get_line(wire, line)) && !(length == 3 && line[0] == '.')) continue;
            strcpy(line, ".");
        }
        if (!put(wire, reply, (int)strlen(reply)) || !strncmp(line, "QUIT", 4)) return;
        if (!strncmp(line, "STARTTLS", 8)) {
            wire->tls = SSL_new(context);
            SSL_set_fd(wire->tls, wire->descriptor);
            if (SSL_accept(wire->tls) != 1) return;
        }
    }
}

static void *taker(void *unused) {
    Wire *wire = malloc(sizeof *wire);
    for (;;) {
        memset(wire, 0, sizeof *wire);
        wire->descriptor = accept(listener, NULL, NULL);
        if (wire->descriptor < 0) continue;
        no_delay(wire->descriptor);
        take_one(wire);
        if (wire->tls) {
            SSL_shutdown(wire->tls);
            SSL_free(wire->tls);
        }
        close(wire->descriptor);
        ERR_clear_error();
    }
    return unused;
}

static void take_all(char **words) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[0]))};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1, threads = atoi(words[1]);
    context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, words[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, words[3], SSL_FILETYPE_PEM) != 1)
        give_up("certificate");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1000)) give_up("listen");
    pthread_t thread;
    for (int one = 0; one < threads; one++)
        if (pthread_create(&thread, NULL, taker, NULL)) give_up("thread");
    for (;;) pause();
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    if (count == 10 && !strcmp(words[1], "send"))
        send_all(words + 2);
    else if (count == 6 && !strcmp(words[1], "take"))
        take_all(words + 2);
    else
        return 2;
    return 0;
}
