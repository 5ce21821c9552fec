//! Arithmetic of the jobs' subnets. Pure.

use std::fmt;
use std::net::Ipv4Addr;

/// An IPv4 block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    base: u32,
    prefix: u32,
}

impl Subnet {
    /// Reads `10.213.0.0/16`. The error says what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(base, prefix)| {
                let base = u32::from(base.parse::<Ipv4Addr>().ok()?);
                let prefix = prefix.parse::<u32>().ok().filter(|prefix| (1..=30).contains(prefix))?;
                (base & (u32::MAX >> prefix) == 0).then_some(Self { base, prefix })
            })
            .ok_or_else(|| {
                format!("subnet pool {text:?} is not usable: expected an IPv4 block such as 10.213.0.0/16, from /1 to /30, whose host bits are zero")
            })
    }

    fn size(self) -> u64 {
        1 << (32 - self.prefix)
    }

    /// Whether the two blocks share an address.
    pub(super) fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        (self.base ^ other.base) >> (32 - shorter) == 0
    }

    /// The gateway: the first address.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// The address of a rank, known before anything is started; `None` if the block is too narrow for it.
    pub(super) fn rank_address(self, rank: u32) -> Option<Ipv4Addr> {
        // The last address is the broadcast's.
        (u64::from(rank) + 3 < self.size()).then(|| Ipv4Addr::from(self.base + 2 + rank))
    }

    /// The second half of its addresses.
    pub(super) fn upper_half(self) -> Self {
        let prefix = self.prefix + 1;
        Self { base: self.base | 1_u32.checked_shl(32 - prefix).unwrap_or(0), prefix }
    }

    /// The blocks inside this pool that could hold a gang, in the order in which `name` tries them: it begins where the
    /// name's hash points, so that two workers that make the network of one job at once try the same block first and
    /// only one of them gets it. `twice` doubles them, so that their upper half is left over. `None` if the pool is too
    /// narrow for the gang.
    pub(super) fn candidates(
        self,
        name: &str,
        replicas: u32,
        twice: bool,
    ) -> Option<impl Iterator<Item = Self> + use<>> {
        // Network, gateway and broadcast take an address each.
        let bits = (u64::from(replicas) + 3).next_power_of_two().trailing_zeros().max(8) + u32::from(twice);
        let prefix = 32_u32.checked_sub(bits).filter(|prefix| *prefix >= self.prefix)?;
        let count = 1_u64 << (prefix - self.prefix);
        let first = hash(name) % count;
        Some((0..count).map(move |step| {
            let slot = u32::try_from((first + step) % count).unwrap_or(0);
            Self { base: self.base | slot.checked_shl(32 - prefix).unwrap_or(0), prefix }
        }))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

/// FNV-1a: the same on every node and in every version, which the standard hasher does not promise. Its high bits are
/// folded in because the callers look at the low ones.
fn hash(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn a_pool_must_be_a_block() {
        for text in ["", "10.0.0.0", "10.0.0.1/16", "10.0.0.0/0", "10.0.0.0/31", "10.0.0/8", "::/64"] {
            assert!(Subnet::parse(text).unwrap_err().contains("expected an IPv4 block"), "{text}");
        }
        assert_eq!(subnet("10.213.0.0/16").to_string(), "10.213.0.0/16");
    }

    #[test]
    fn a_rank_has_a_fixed_address() {
        let block = subnet("10.213.7.0/24");
        assert_eq!(block.gateway().to_string(), "10.213.7.1");
        assert_eq!(block.rank_address(0).unwrap().to_string(), "10.213.7.2");
        assert_eq!(block.rank_address(252).unwrap().to_string(), "10.213.7.254");
        assert_eq!(block.rank_address(253), None);
        assert_eq!(block.rank_address(u32::MAX), None);
    }

    #[test]
    fn every_rank_of_a_gang_fits_its_block_at_any_size() {
        let pool = subnet("10.0.0.0/8");
        for replicas in [1, 2, 250, 251, 253, 254, 1000, 4093, 65_000] {
            let block = pool.candidates("job", replicas, false).unwrap().next().unwrap();
            assert!(block.rank_address(replicas - 1).is_some(), "{replicas} in {block}");
            assert!(pool.overlaps(block));
        }
        assert_eq!(pool.candidates("job", 250, false).unwrap().next().unwrap().prefix, 24);
        assert_eq!(pool.candidates("job", 254, false).unwrap().next().unwrap().prefix, 23);
        assert!(subnet("10.213.0.0/24").candidates("job", 254, false).is_none());
        let double = pool.candidates("job", 250, true).unwrap().next().unwrap();
        assert_eq!((double.prefix, double.upper_half().prefix), (23, 24));
        assert!(double.overlaps(double.upper_half()));
        assert!(!Subnet { prefix: 24, ..double }.overlaps(double.upper_half()));
        assert!(double.rank_address(249).unwrap() < double.upper_half().gateway());
    }

    #[test]
    fn candidates_are_the_whole_pool_without_overlap_and_begin_at_the_hash() {
        let pool = subnet("10.213.0.0/20");
        let blocks: Vec<Subnet> = pool.candidates("muster-a-1", 3, false).unwrap().collect();
        assert_eq!(blocks.len(), 16);
        for (number, block) in blocks.iter().enumerate() {
            assert!(blocks[number + 1..].iter().all(|other| !block.overlaps(*other)));
        }
        let starts: std::collections::BTreeSet<String> = (0..100)
            .map(|job| pool.candidates(&format!("muster-a-{job}"), 3, false).unwrap().next().unwrap().to_string())
            .collect();
        assert!(starts.len() > 12, "the hash spreads jobs over the pool: {starts:?}");
    }
}
