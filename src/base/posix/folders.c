/* Paths and folders. */
#include "base/posix/posix.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ds_status ds_os_make_folder(const char *path, bool *made, struct ds_error *err) {
    *made = mkdir(path, 0777) == 0;
    if (*made || (errno == EEXIST && ds_os_path_kind(path) == DS_PATH_FOLDER)) return DS_OK;
    return ds_posix_fail(err, "create folder", path, errno);
}

void ds_os_remove_empty_folder(const char *path) { (void)rmdir(path); }

enum ds_path_kind ds_os_path_kind(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) return DS_PATH_MISSING;
    if (S_ISREG(info.st_mode)) return DS_PATH_FILE;
    return S_ISDIR(info.st_mode) ? DS_PATH_FOLDER : DS_PATH_OTHER;
}

char *ds_os_join(const char *folder, const char *name) {
    const size_t n = strlen(folder);
    return ds_posix_format("%s%s%s", folder, n > 0 && folder[n - 1] != '/' ? "/" : "", name);
}

ds_status ds_os_make_folders(const char *path, struct ds_error *err) {
    char *text = ds_posix_format("%s", path);
    if (!text) return ds_fail_memory(err, strlen(path) + 1, "a path");
    int error = 0;
    for (char *end = text + 1; error == 0 && text[0]; end++) {
        if (*end != '/' && *end != '\0') continue;
        const char kept = *end;
        *end = '\0';
        if (mkdir(text, 0777) != 0 && errno != EEXIST) error = errno;
        *end = kept;
        if (kept == '\0') break;
    }
    free(text);
    if (error == 0 && ds_os_path_kind(path) != DS_PATH_FOLDER) error = ENOTDIR;
    return error == 0 ? DS_OK : ds_posix_fail(err, "make the folder", path, error);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct name_list {
    char **names;
    size_t count, capacity;
};

static bool add_name(struct name_list *list, const char *name) {
    if (list->count == list->capacity) {
        const size_t capacity = DS_MAX(list->capacity * 2, 16);
        char **larger = realloc(list->names, capacity * sizeof *larger);
        if (!larger) return false;
        list->names = larger;
        list->capacity = capacity;
    }
    list->names[list->count] = strdup(name);
    return list->names[list->count] && ++list->count;
}

/* 0 or an errno; what has been read is in the list either way. */
static int read_names(DIR *folder, struct name_list *list) {
    for (;;) {
        errno = 0; /* the only way to tell the end from a failure */
        const struct dirent *entry = readdir(folder);
        if (!entry) return errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (!add_name(list, entry->d_name)) return ENOMEM;
    }
}

ds_status ds_os_list_folder(const char *path, char ***names, size_t *count, struct ds_error *err) {
    *names = NULL;
    *count = 0;
    DIR *folder = opendir(path);
    if (!folder) return ds_posix_fail(err, "open the folder", path, errno);
    struct name_list list = {0};
    const int error = read_names(folder, &list);
    closedir(folder);
    if (error != 0) {
        ds_os_free_names(list.names, list.count);
        return ds_posix_fail(err, "list the folder", path, error);
    }
    if (list.count > 0) qsort(list.names, list.count, sizeof *list.names, compare_names);
    *names = list.names;
    *count = list.count;
    return DS_OK;
}

void ds_os_free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}
