//! Every capacity of the program, and how they relate. Times that users set are in the configuration.
