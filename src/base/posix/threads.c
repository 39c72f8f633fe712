/* Threads, and what they wait for. */
#include "base/posix/posix.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ds_os_thread {
    pthread_t handle;
    void (*fn)(void *);
    void *user;
    char name[16]; /* what Linux keeps */
};

static void *thread_main(void *arg) {
    struct ds_os_thread *thread = arg;
#if defined(__linux__)
    (void)pthread_setname_np(pthread_self(), thread->name);
#elif defined(__APPLE__)
    (void)pthread_setname_np(thread->name);
#endif
    (void)ds_os_float_begin(); /* the thread is ours: nothing to restore */
    thread->fn(thread->user);
    return NULL;
}

ds_status ds_os_thread_create(void (*fn)(void *), void *user, const char *name, struct ds_os_thread **out,
                              struct ds_error *err) {
    *out = NULL;
    struct ds_os_thread *thread = calloc(1, sizeof *thread);
    if (!thread) return ds_fail_memory(err, sizeof *thread, "a thread");
    thread->fn = fn;
    thread->user = user;
    snprintf(thread->name, sizeof thread->name, "%s", name);

    /* Signals are the host's business: its handlers must not run on our threads, so these start with all blocked. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&thread->handle, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        free(thread);
        const ds_status status = error == EAGAIN ? DS_ERROR_LIMIT : DS_ERROR_IO;
        return ds_fail(err, status, "cannot start thread '%s': %s", name, strerror(error));
    }
    *out = thread;
    return DS_OK;
}

void ds_os_thread_join(struct ds_os_thread *thread) {
    const int error = pthread_join(thread->handle, NULL);
    assert(error == 0);
    (void)error;
    free(thread);
}

struct ds_os_mutex {
    pthread_mutex_t handle;
};

struct ds_os_mutex *ds_os_mutex_create(void) {
    struct ds_os_mutex *mutex = malloc(sizeof *mutex);
    if (mutex && pthread_mutex_init(&mutex->handle, NULL) != 0) {
        free(mutex);
        return NULL;
    }
    return mutex;
}

void ds_os_mutex_destroy(struct ds_os_mutex *mutex) {
    if (!mutex) return;
    pthread_mutex_destroy(&mutex->handle);
    free(mutex);
}

void ds_os_mutex_lock(struct ds_os_mutex *mutex) {
    pthread_mutex_lock(&mutex->handle);
}

void ds_os_mutex_unlock(struct ds_os_mutex *mutex) {
    pthread_mutex_unlock(&mutex->handle);
}

struct ds_os_cond {
    pthread_cond_t handle;
};

struct ds_os_cond *ds_os_cond_create(void) {
    struct ds_os_cond *cond = malloc(sizeof *cond);
    if (cond && pthread_cond_init(&cond->handle, NULL) != 0) {
        free(cond);
        return NULL;
    }
    return cond;
}

void ds_os_cond_destroy(struct ds_os_cond *cond) {
    if (!cond) return;
    pthread_cond_destroy(&cond->handle);
    free(cond);
}

void ds_os_cond_wait(struct ds_os_cond *cond, struct ds_os_mutex *mutex) {
    pthread_cond_wait(&cond->handle, &mutex->handle);
}

void ds_os_cond_broadcast(struct ds_os_cond *cond) {
    pthread_cond_broadcast(&cond->handle);
}
