import CLinux

/// Threads of the door's own, which may wait as long as they like.
enum DetachedThread {
    /// JSON and XML are nested at most so deep that this is plenty; only touched pages count.
    private static let stackBytes = 1 << 20

    private final class Start {
        let body: () -> Void

        init(_ body: @escaping () -> Void) { self.body = body }
    }

    /// False when the system has no thread to give.
    static func start(_ body: @escaping () -> Void) -> Bool {
        let context = Unmanaged.passRetained(Start(body))
        let outcome = cl_start_thread(
            { raw in
                guard let raw else { return }
                Unmanaged<Start>.fromOpaque(raw).takeRetainedValue().body()
            }, context.toOpaque(), stackBytes)
        if outcome < 0 { context.release() }
        return outcome >= 0
    }
}
