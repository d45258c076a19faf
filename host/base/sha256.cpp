// SPDX-License-Identifier: Apache-2.0
#include "host/base/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <fstream>
#include <new>
#include <vector>

#include "host/base/error.h"
#include "host/base/files.h"

namespace roundhouse {
namespace {

// Throws unless OpenSSL has done it: what it lacks in the middle of a digest is memory.
void require(int done) {
  if (done != 1) throw Error("OpenSSL cannot compute a SHA-256 digest: no memory is left", Failure::kExhausted);
}

EVP_MD_CTX* of(const std::shared_ptr<void>& context) { return static_cast<EVP_MD_CTX*>(context.get()); }

}  // namespace

Sha256::Sha256()
    : context_(EVP_MD_CTX_new(), [](void* context) { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context)); }) {
  if (!context_) throw std::bad_alloc();
  require(EVP_DigestInit_ex(of(context_), EVP_sha256(), nullptr));
}

void Sha256::add(const void* data, size_t bytes) { require(EVP_DigestUpdate(of(context_), data, bytes)); }

std::string Sha256::hex() const {
  const Sha256 ended;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  require(EVP_MD_CTX_copy_ex(of(ended.context_), of(context_)));
  require(EVP_DigestFinal_ex(of(ended.context_), digest, &size));
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    hex += "0123456789abcdef"[digest[i] >> 4];
    hex += "0123456789abcdef"[digest[i] & 15];
  }
  return hex;
}

std::string sha256(std::string_view bytes) {
  Sha256 digest;
  digest.add(bytes.data(), bytes.size());
  return digest.hex();
}

std::string sha256_of_file(const std::filesystem::path& file, uint64_t offset, uint64_t bytes) {
  std::ifstream in = open_file(file);
  if (!in) throw Error(cat("cannot open ", file.string()), Failure::kNotFound);
  Sha256 digest;
  in.seekg(static_cast<std::streamoff>(offset));
  for (std::vector<char> buffer(1 << 20); bytes > 0;) {
    in.read(buffer.data(), static_cast<std::streamsize>(std::min<uint64_t>(bytes, buffer.size())));
    if (in.bad()) throw Error(cat("cannot read ", file.string()), Failure::kDataLoss);
    if (in.gcount() <= 0) break;
    digest.add(buffer.data(), static_cast<size_t>(in.gcount()));
    bytes -= static_cast<uint64_t>(in.gcount());
  }
  return digest.hex();
}

}  // namespace roundhouse
