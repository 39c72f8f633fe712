/* A library that has nothing to do with dspark. */
__attribute__((visibility("default"))) int something_else(void);
__attribute__((visibility("default"))) int something_else(void) { return 1; }
