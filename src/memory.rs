//! What the C allocator keeps of the memory that we give back.
//!
//! A body is as large as everything else together, it is allocated on one thread and freed on others,
//! and a first load leaves what it noted scattered between. By default glibc has an arena for every
//! thread, none of which uses what another one has, and soon takes pieces of a body from arenas, which
//! return to the system only what lies at their end. Elsewhere than on glibc nothing is done here.

/// Few arenas share what they keep; our threads seldom allocate at the same time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 2;
/// What is larger is mapped and returned by itself: pieces of a body, what is allocated once a poll.
/// It is the limit that glibc starts with, and raises up to 32 MiB unless it is set. The page faults
/// cost about 0.2 s of CPU per million entries; 512 KiB costs a quarter of that and 25 MB of memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 128 << 10;

/// Sets the allocator up; before there are threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call into libc")]
pub fn set_up() {
    // Safety: mallopt takes two numbers and may be called at any time.
    let set = unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS)
            & libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES)
    };
    debug_assert_eq!(set, 1, "glibc knows both options");
}

/// Gives what lies free between what is used back to the system; milliseconds, after much was freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call into libc")]
pub fn give_back() {
    // Safety: malloc_trim takes a number and may be called at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Gives memory back to the system.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}

/// Sets the allocator up; before there are threads.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn set_up() {}
