import Glibc

/// A value behind a lock that threads take for moments.
///
/// Not `Synchronization.Mutex`: on Linux that is a priority-inheriting futex, which hands itself to the next waiter at
/// every unlock. With more threads than cores each hand-over is a switch of threads; it cost the S3 door half its speed.
package final class Locked<Value>: @unchecked Sendable {
    // `value` is read and written under `lock` alone.
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private var value: Value

    package init(_ value: Value) {
        self.value = value
        lock = .allocate(capacity: 1)
        lock.initialize(to: pthread_mutex_t())
        pthread_mutex_init(lock, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }

    package func withLock<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return try body(&value)
    }
}
