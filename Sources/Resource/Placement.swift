/// Where a worker goes: a pure function of a snapshot of the state.
package struct Placement: Sendable, Equatable {
    /// A data center and what its workers take of it now.
    package struct Site: Sendable, Equatable {
        package var dataCenter: DataCenter
        package var usedVcpus: Int
        package var usedMemoryBytes: Int64
        package var usedGpus: [String: Int]
        /// Free bytes of the disk that container volumes lie on, less what is held back for Roost itself.
        package var freeDiskBytes: Int64

        package init(
            dataCenter: DataCenter, usedVcpus: Int = 0, usedMemoryBytes: Int64 = 0, usedGpus: [String: Int] = [:],
            freeDiskBytes: Int64 = .max
        ) {
            self.dataCenter = dataCenter
            self.usedVcpus = usedVcpus
            self.usedMemoryBytes = usedMemoryBytes
            self.usedGpus = usedGpus
            self.freeDiskBytes = freeDiskBytes
        }
    }

    /// What a data center has too little of, though parked workers could give it.
    package struct Shortage: Sendable, Equatable {
        package var dataCenterID: String
        package var isOfGPUs: Bool

        package init(dataCenterID: String, isOfGPUs: Bool = false) { (self.dataCenterID, self.isOfGPUs) = (dataCenterID, isOfGPUs) }

        /// Whether the end of a parked worker would leave more of it.
        package func isHelped(by parked: Worker) -> Bool {
            parked.dataCenterID == dataCenterID && (!isOfGPUs || parked.gpuCount > 0)
        }
    }

    package struct Refusal: Error, Equatable {
        package var reason: String
        /// Empty where the end of parked workers would not help: they use no CPU.
        package var shortages: [Shortage] = []
    }

    package var dataCenterID: String
    package var volumeID: String?
    package var gpuType: String?
    /// Why here, recorded with the worker.
    package var reason: String

    /// Chooses among the data centers of the endpoint's volumes, in the volumes' order; without volumes among the
    /// allowed data centers, the one with the largest share of free memory first.
    package static func choose(
        for endpoint: Endpoint, volumes: [NetworkVolume], sites: [Site]
    ) -> Result<Placement, Refusal> {
        let candidates = self.candidates(for: endpoint, volumes: volumes, sites: sites)
        guard !candidates.isEmpty else {
            return .failure(Refusal(reason: "no capacity: none of its data centers is configured here"))
        }
        var refusals: [Refusal] = []
        for (site, volume) in candidates {
            switch fit(endpoint, in: site) {
            case .success(let gpuType):
                let why = volume.map { "its network volume \($0.id) lies here" } ?? "most free memory of those allowed"
                let skipped = refusals.isEmpty ? "" : "; passed over " + refusals.map(\.reason).joined(separator: "; ")
                return .success(
                    Placement(
                        dataCenterID: site.dataCenter.id, volumeID: volume?.id, gpuType: gpuType, reason: why + skipped))
            case .failure(let refusal): refusals.append(refusal)
            }
        }
        return .failure(
            Refusal(
                reason: "no capacity: " + refusals.map(\.reason).joined(separator: "; "), shortages: refusals.flatMap(\.shortages)))
    }

    private static func candidates(
        for endpoint: Endpoint, volumes: [NetworkVolume], sites: [Site]
    ) -> [(Site, NetworkVolume?)] {
        let allowed = sites.filter {
            endpoint.dataCenterIds.isEmpty || endpoint.dataCenterIds.contains($0.dataCenter.id)
        }
        if !endpoint.networkVolumeIds.isEmpty {
            return volumes.compactMap { volume in
                allowed.first { $0.dataCenter.id == volume.dataCenterId }.map { ($0, volume) }
            }
        }
        return allowed.sorted { $0.freeShare > $1.freeShare }.map { ($0, nil) }
    }

    private static func fit(_ endpoint: Endpoint, in site: Site) -> Result<String?, Refusal> {
        let center = site.dataCenter
        func refuse(_ what: String, _ shortage: Shortage? = nil) -> Result<String?, Refusal> {
            .failure(Refusal(reason: "\(center.id) \(what)", shortages: shortage.map { [$0] } ?? []))
        }
        if site.usedVcpus + endpoint.vcpuCount > center.vcpus {
            return refuse("has \(max(0, center.vcpus - site.usedVcpus)) of \(center.vcpus) CPUs free, \(endpoint.vcpuCount) needed")
        }
        let freeMemory = center.memoryBytes - site.usedMemoryBytes
        if freeMemory < endpoint.memoryBytes {
            return refuse(
                "has \(max(0, freeMemory) >> 20) MiB of memory free, \(endpoint.memoryBytes >> 20) needed",
                Shortage(dataCenterID: center.id))
        }
        if site.freeDiskBytes <= 0 {
            return refuse("has no free disk left for container volumes", Shortage(dataCenterID: center.id))
        }
        guard endpoint.computeType == .gpu else { return .success(nil) }
        let types = endpoint.gpuTypeIds.isEmpty ? center.gpus.keys.sorted() : endpoint.gpuTypeIds
        for type in types where (center.gpus[type] ?? 0) - (site.usedGpus[type] ?? 0) >= endpoint.gpuCount {
            return .success(type)
        }
        let wish = endpoint.gpuTypeIds.isEmpty ? "GPU" : endpoint.gpuTypeIds.joined(separator: " or ")
        return refuse("has no \(endpoint.gpuCount) x \(wish) free", Shortage(dataCenterID: center.id, isOfGPUs: true))
    }

    /// Checks that an endpoint may have these volumes: at most one a data center, each within `dataCenterIds`.
    package static func check(
        volumes: [NetworkVolume], of endpoint: Endpoint, others: [NetworkVolume]
    ) throws(RoostError) {
        let allowed = { (id: String) in endpoint.dataCenterIds.isEmpty || endpoint.dataCenterIds.contains(id) }
        var taken: Set<String> = []
        for volume in volumes {
            guard allowed(volume.dataCenterId) else {
                let centers = endpoint.dataCenterIds.joined(separator: ", ")
                throw RoostError(
                    .invalid,
                    "field 'networkVolumeIds': volume \(volume.id) lies in \(volume.dataCenterId), outside dataCenterIds (\(centers)); "
                        + "would fit: \(list(others.filter { allowed($0.dataCenterId) }))")
            }
            guard taken.insert(volume.dataCenterId).inserted else {
                let free = others.filter { other in
                    allowed(other.dataCenterId) && !volumes.contains { $0.dataCenterId == other.dataCenterId }
                }
                throw RoostError(
                    .invalid,
                    "field 'networkVolumeIds': two volumes in \(volume.dataCenterId), at most one a data center is allowed; "
                        + "besides one of them would fit: \(list(free))")
            }
        }
    }

    private static func list(_ volumes: [NetworkVolume]) -> String {
        volumes.isEmpty ? "none" : volumes.map { "\($0.id) in \($0.dataCenterId)" }.joined(separator: ", ")
    }
}

extension Placement.Site {
    fileprivate var freeShare: Double {
        Double(dataCenter.memoryBytes - usedMemoryBytes) / Double(max(1, dataCenter.memoryBytes))
    }
}
