# Being written by the second hand of the store (05:55); the tests of the store itself stay with the first.
