import AsyncHTTPClient
import NIOCore

/// The bytes of an object. When the connection breaks it goes on where it stopped, as long as the object is still the one
/// of `etag`.
package struct ObjectRead: AsyncSequence, Sendable {
    package typealias Element = ByteBuffer

    private let client: S3Client
    private let bucket: String
    private let key: String
    private let size: Int64
    private let etag: String

    package init(_ client: S3Client, bucket: String, key: String, size: Int64, etag: String) {
        (self.client, self.bucket, self.key, self.size, self.etag) = (client, bucket, key, size, etag)
    }

    package func makeAsyncIterator() -> Iterator { Iterator(source: self) }

    package struct Iterator: AsyncIteratorProtocol {
        fileprivate let source: ObjectRead
        private var at: Int64 = 0
        private var failures = 0
        private var body: HTTPClientResponse.Body.AsyncIterator?

        fileprivate init(source: ObjectRead) { self.source = source }

        package mutating func next() async throws -> ByteBuffer? {
            while at < source.size {
                do {
                    if body == nil { body = try await open() }
                    // Only this iterator has it; that it is not Sendable is for others to mind.
                    nonisolated(unsafe) var rest = body
                    let piece = try await rest?.next()
                    body = rest
                    if let piece {
                        at += Int64(piece.readableBytes)
                        failures = 0
                        return piece
                    }
                    throw S3Failure(status: 500, code: "IncompleteBody", message: "\(source.key) came shorter than its length")
                } catch let failure as S3Failure where !failure.isPassing { throw failure } catch {
                    (body, failures) = (nil, failures + 1)
                    guard failures < source.client.tries, !Task.isCancelled else { throw error }
                    try await Task.sleep(for: .milliseconds(100 << failures))
                }
            }
            guard at == source.size else {
                throw S3Failure(status: 200, code: "IncompleteBody", message: "\(source.key) has more bytes than its length")
            }
            return nil
        }

        private func open() async throws -> HTTPClientResponse.Body.AsyncIterator {
            var headers = at > 0 ? [("range", "bytes=\(at)-")] : []
            if !source.etag.isEmpty { headers.append(("if-match", "\"\(source.etag)\"")) }
            let response = try await source.client.send(.GET, source.bucket, source.key, headers: headers)
            guard at == 0 || response.status.code == 206 else {
                throw S3Failure(status: 416, code: "InvalidRange", message: "the store does not serve ranges")
            }
            return response.body.makeAsyncIterator()
        }
    }
}
