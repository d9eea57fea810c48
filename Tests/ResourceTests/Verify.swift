import Testing

/// `#expect` for conditions that change what they look at: the macro's closures see their operands as constants.
func verify(_ condition: Bool, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(condition, sourceLocation: sourceLocation)
}
