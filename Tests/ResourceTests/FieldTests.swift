import Resource
import Testing

@Suite struct FieldTests {
    private let fields = [
        Field("count", .integer(1...9), default: 3, "a number"), Field("name", .text(5), required: true, "a name"),
        Field("fixed", .boolean, mutable: false, "set once"), Field("env", .map(2), "pairs"), Field("tags", .texts(2), "words"),
        Field("kind", .choice(["A", "B"]), "one of two"),
    ]

    @Test func defaultsFillACreateAndNotAnUpdate() throws {
        #expect(try FieldValues(["name": "x"], fields: fields, isUpdate: false).int("count") == 3)
        #expect(try FieldValues([:], fields: fields, isUpdate: true).int("count") == nil)
        #expect(try FieldValues(["name": "x", "count": nil, "other": 1], fields: fields, isUpdate: false).int("count") == 3)
    }

    @Test(
        arguments: [
            ("count", 0), ("count", 10), ("count", JSON.number("1.5")), ("count", "1"), ("count", true), ("name", ""), ("name", "toolong"),
            ("name", "a\u{0}"), ("fixed", 1), ("env", ["a": 1]), ("env", ["a=b": "c"]), ("env", ["a": "", "b": "", "c": ""]),
            ("tags", [""]),
            ("tags", ["a", "b", "c"]), ("kind", "C"), ("count", JSON.number("1e400")), ("count", JSON.number("99999999999999999999")),
        ] as [(String, JSON)])
    func errorsNameFieldValueAndRange(name: String, value: JSON) {
        let body = JSON.object([.init("name", "ok"), .init(name, value)])
        let error = #expect(throws: RoostError.self) { try FieldValues(body, fields: fields, isUpdate: false) }
        #expect(error?.code == .invalid && error?.message.contains("'\(name)'") == true && error?.message.contains("allowed") == true)
    }

    @Test func fixedFieldsAreRefusedInUpdates() {
        #expect(throws: RoostError.self) { try FieldValues(["fixed": true], fields: fields, isUpdate: true) }
    }

    @Test func timesAreRFC3339() {
        #expect(Timestamp.text(0) == "1970-01-01T00:00:00.000Z")
        #expect(Timestamp.text(1_720_811_680_144) == "2024-07-12T19:14:40.144Z")
        #expect(Timestamp.text(951_782_400_000) == "2000-02-29T00:00:00.000Z")
    }

    @Test func idsAreSafeAndUUIDsHaveTheirShape() {
        #expect(Identifier.make(length: 14).utf8.count == 14)
        let parts = Identifier.uuid().split(separator: "-").map(\.count)
        #expect(parts == [8, 4, 4, 4, 12])
        for bad in ["", "..", "a/b", "a\u{0}", "é", String(repeating: "a", count: 65)] { #expect(!Identifier.isSafe(bad)) }
    }
}
