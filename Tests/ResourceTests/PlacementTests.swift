import Resource
import Testing

@Suite struct PlacementTests {
    private func endpoint(_ extra: [(String, JSON)] = []) throws -> Endpoint {
        let body = JSON.object(([("templateId", "t"), ("vcpuCount", 2), ("memoryInGb", 2)] + extra).map { JSON.Member($0.0, $0.1) })
        return Endpoint(
            id: "e", createdAt: 0, standardCompute: .cpu, values: try FieldValues(body, fields: Endpoint.fields, isUpdate: false))
    }

    private func site(_ id: String, vcpus: Int = 8, memoryGb: Int64 = 8, gpus: [String: Int] = [:], usedVcpus: Int = 0, usedGb: Int64 = 0)
        -> Placement.Site
    {
        .init(
            dataCenter: DataCenter(id: id, vcpus: vcpus, memoryBytes: memoryGb << 30, gpus: gpus), usedVcpus: usedVcpus,
            usedMemoryBytes: usedGb << 30)
    }

    private func volume(_ id: String, in center: String) -> NetworkVolume {
        NetworkVolume(id: id, name: id, size: 10, dataCenterId: center, createdAt: 0)
    }

    private func reason(_ result: Result<Placement, Placement.Refusal>) -> String {
        switch result {
        case .success(let placement): placement.dataCenterID
        case .failure(let refusal): refusal.reason
        }
    }

    @Test func withoutVolumesTheEmptierDataCenterWins() throws {
        let result = Placement.choose(for: try endpoint(), volumes: [], sites: [site("A", usedGb: 4), site("B")])
        #expect(reason(result) == "B")
    }

    @Test func aVolumePinsTheWorker() throws {
        let placed = try Placement.choose(
            for: endpoint([("networkVolumeIds", ["v"])]), volumes: [volume("v", in: "A")], sites: [site("A", usedGb: 4), site("B")]
        ).get()
        #expect(placed.dataCenterID == "A" && placed.volumeID == "v")
    }

    @Test func aFullDataCenterDivertsToTheNextVolume() throws {
        let placed = try Placement.choose(
            for: endpoint([("networkVolumeIds", ["v", "w"])]), volumes: [volume("v", in: "A"), volume("w", in: "B")],
            sites: [site("A", usedVcpus: 7), site("B")]
        ).get()
        #expect(placed.volumeID == "w" && placed.reason.contains("passed over A has 1 of 8 CPUs free"))
    }

    @Test func refusalsSayWhatIsMissingWhere() throws {
        let sites = [site("A", memoryGb: 1), site("B", vcpus: 1)]
        let text = reason(Placement.choose(for: try endpoint(), volumes: [], sites: sites))
        #expect(text.hasPrefix("no capacity: ") && text.contains("A has 1024 MiB") && text.contains("B has 1 of 1 CPUs"))
        #expect(reason(Placement.choose(for: try endpoint([("dataCenterIds", ["X"])]), volumes: [], sites: sites)).contains("none of"))
    }

    @Test func gpusAreTakenInOrderOfPreference() throws {
        let sites = [site("A", gpus: ["Big": 1, "Small": 2])]
        let wish = try endpoint([("gpuTypeIds", ["Huge", "Small", "Big"]), ("gpuCount", 2)])
        #expect(try Placement.choose(for: wish, volumes: [], sites: sites).get().gpuType == "Small")
        var used = sites[0]
        used.usedGpus = ["Small": 1]
        #expect(reason(Placement.choose(for: wish, volumes: [], sites: [used])).contains("no 2 x Huge or Small or Big free"))
    }

    @Test func twoVolumesOfOneDataCenterAreRefused() throws {
        let volumes = [volume("v", in: "A"), volume("w", in: "A")]
        let others = volumes + [volume("x", in: "B")]
        let error = #expect(throws: RoostError.self) { try Placement.check(volumes: volumes, of: endpoint(), others: others) }
        #expect(error?.message.contains("x in B") == true)
        #expect(throws: RoostError.self) {
            try Placement.check(volumes: [volumes[0]], of: endpoint([("dataCenterIds", ["B"])]), others: others)
        }
        try Placement.check(volumes: [volumes[0], others[2]], of: endpoint(), others: others)
    }

    @Test func onlyWhatParkedWorkersHoldIsAskedOfThem() throws {
        func shortages(_ site: Placement.Site, _ extra: [(String, JSON)] = []) throws -> [Placement.Shortage] {
            guard case .failure(let refusal) = Placement.choose(for: try endpoint(extra), volumes: [], sites: [site]) else { return [] }
            return refusal.shortages
        }
        #expect(try shortages(site("A", usedVcpus: 8)).isEmpty)
        #expect(try shortages(site("A", usedGb: 8)) == [.init(dataCenterID: "A")])
        #expect(try shortages(site("A"), [("computeType", "GPU")]) == [.init(dataCenterID: "A", isOfGPUs: true)])
        func parked(_ center: String, gpus: Int) -> Worker {
            Worker(
                id: "w", endpointID: "e", dataCenterID: center, volumeID: nil, gpuType: nil, gpuCount: gpus, vcpus: 1, memoryBytes: 1,
                diskBytes: 1, imageName: "i", imageID: "i", version: 1, tokenHash: "", createdAt: 0, placement: "", apiBase: "")
        }
        #expect(Placement.Shortage(dataCenterID: "A").isHelped(by: parked("A", gpus: 0)))
        #expect(!Placement.Shortage(dataCenterID: "A").isHelped(by: parked("B", gpus: 0)))
        #expect(!Placement.Shortage(dataCenterID: "A", isOfGPUs: true).isHelped(by: parked("A", gpus: 0)))
        #expect(Placement.Shortage(dataCenterID: "A", isOfGPUs: true).isHelped(by: parked("A", gpus: 1)))
    }
}
