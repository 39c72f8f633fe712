/* Files that are written: each appears under its name when it is complete, or not at all. */
#include "base/posix/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ds_status fail_writer(struct ds_os_writer *writer, const char *action, struct ds_error *err) {
    const ds_status status = ds_posix_fail(err, action, writer->temporary, errno);
    ds_os_write_abort(writer);
    return status;
}

/* Opens a new file beside the one to be. Its name is drawn, so that writers of one file do not meet. */
static ds_status create_beside(const char *asked, struct ds_os_writer *writer, struct ds_error *err) {
    enum { MOST_ATTEMPTS = 16 };
    int error = EEXIST;
    for (int attempt = 0; attempt < MOST_ATTEMPTS && error == EEXIST; attempt++) {
        uint32_t tag;
        DS_TRY(ds_os_random(&tag, sizeof tag, err));
        char *name = ds_posix_format("%s.%08x.part", writer->path, (unsigned)tag);
        if (!name) return ds_fail_memory(err, strlen(writer->path) + 16, "a file's name");
        writer->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->fd >= 0) {
            writer->temporary = name;
            return DS_OK;
        }
        error = errno;
        free(name);
    }
    return ds_posix_fail(err, "create", asked, error);
}

ds_status ds_os_write_begin(const char *path, struct ds_os_writer *out, struct ds_error *err) {
    *out = (struct ds_os_writer){.fd = -1};
    const enum ds_path_kind kind = ds_os_path_kind(path);
    /* A rename would replace /dev/null by a file, and cannot replace a folder. */
    if (kind != DS_PATH_MISSING && kind != DS_PATH_FILE)
        return ds_fail(err, DS_ERROR_IO, "cannot write '%s': expected a file's name, found %s", path,
                       kind == DS_PATH_FOLDER ? "a folder" : "a device, pipe or socket");
    /* Through symbolic links, so that the file they lead to is replaced and not the link. */
    out->path = kind == DS_PATH_FILE ? realpath(path, NULL) : ds_posix_format("%s", path);
    if (!out->path) return ds_posix_fail(err, "resolve", path, errno);
    const ds_status status = create_beside(path, out, err);
    if (status != DS_OK) ds_os_write_abort(out);
    return status;
}

ds_status ds_os_write(struct ds_os_writer *writer, const void *data, size_t bytes, struct ds_error *err) {
    const char *p = data;
    while (bytes > 0) {
        const ssize_t n = write(writer->fd, p, bytes);
        if (n > 0) {
            p += n;
            bytes -= (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            return ds_posix_fail(err, "write", writer->temporary, errno);
        }
    }
    return DS_OK;
}

/* The bytes are on the disk and the file is closed; on failure nothing is left of it. */
static ds_status finish(struct ds_os_writer *writer, struct ds_error *err) {
    if (fsync(writer->fd) != 0 && errno != EINVAL) return fail_writer(writer, "write", err); /* EINVAL: not a thing to sync */
    const int fd = writer->fd;
    writer->fd = -1; /* close gives the descriptor back even when it fails */
    if (close(fd) != 0 && errno != EINTR) return fail_writer(writer, "write", err);
    return DS_OK;
}

/* A rename is durable once its folder is. Not every file system can do this, and the file is complete without it. */
static void sync_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = !slash ? ds_posix_format(".") : ds_posix_format("%.*s", (int)DS_MAX(slash - path, 1), path);
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

/* What was written stays. */
static void forget(struct ds_os_writer *writer) {
    free(writer->temporary);
    free(writer->path);
    *writer = (struct ds_os_writer){.fd = -1};
}

ds_status ds_os_write_commit(struct ds_os_writer *writer, struct ds_error *err) {
    DS_TRY(finish(writer, err));
    if (rename(writer->temporary, writer->path) != 0) return fail_writer(writer, "rename", err);
    sync_folder_of(writer->path);
    forget(writer);
    return DS_OK;
}

void ds_os_write_abort(struct ds_os_writer *writer) {
    if (writer->temporary) {
        if (writer->fd >= 0) close(writer->fd);
        unlink(writer->temporary);
    }
    forget(writer);
}

ds_status ds_os_create_file(const char *path, bool secret, const void *data, size_t bytes, struct ds_error *err) {
    struct ds_os_writer writer = {.temporary = ds_posix_format("%s", path)};
    if (!writer.temporary) return ds_fail_memory(err, strlen(path) + 1, "a path");
    writer.fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, secret ? 0600 : 0666);
    if (writer.fd < 0) {
        const ds_status status = ds_posix_fail(err, "create", path, errno);
        forget(&writer); /* one of this name is not ours to take away */
        return status;
    }
    const ds_status status = ds_os_write(&writer, data, bytes, err);
    if (status != DS_OK) {
        ds_os_write_abort(&writer);
        return status;
    }
    DS_TRY(finish(&writer, err));
    forget(&writer);
    return DS_OK;
}
