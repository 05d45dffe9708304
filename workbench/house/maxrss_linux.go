package main

// maxrssUnit is what getrusage counts peak memory in: KiB on Linux.
const maxrssUnit = 1024
