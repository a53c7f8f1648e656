//! Nothing: the tests beside this are what this package is for.
