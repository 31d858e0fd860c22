// Without any assembly the compiler wants a body for each function, also for one that is linked.
