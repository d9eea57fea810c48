import HeapModule
import Resource

/// Things due at a time, earliest first.
struct DeadlineHeap<Item: Sendable> {
    private struct Entry: Comparable {
        var time: Milliseconds
        var order: Int
        var item: Item

        static func == (left: Entry, right: Entry) -> Bool { left.order == right.order }
        static func < (left: Entry, right: Entry) -> Bool { (left.time, left.order) < (right.time, right.order) }
    }

    private var heap = Heap<Entry>()
    private var order = 0

    var count: Int { heap.count }

    var next: Milliseconds? { heap.min?.time }

    mutating func add(_ item: Item, at time: Milliseconds) {
        order += 1
        heap.insert(Entry(time: time, order: order, item: item))
    }

    /// Drops what nobody waits for any more.
    mutating func prune(keeping isNeeded: (Item) -> Bool) {
        heap = Heap(heap.unordered.filter { isNeeded($0.item) })
    }

    mutating func popDue(at now: Milliseconds) -> Item? {
        guard let first = heap.min, first.time <= now else { return nil }
        return heap.popMin()?.item
    }
}
