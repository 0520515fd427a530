// The first part of `kvattend replay`: the reference tensors through the server's reference
// formats.
#ifndef KVATTEND_CLIENT_CLI_REPLAY_REFERENCE_H_
#define KVATTEND_CLIENT_CLI_REPLAY_REFERENCE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/figures.h"
#include "client/cli/reference_input.h"
#include "client/cpp/codec_client.h"

namespace kvattend::cli {

struct ReferenceReplay {
  // Each figure of input.figures, then those below that the documents imply.
  std::vector<Figure> figures;
  // The figures that readers of the documents know.
  int64_t first_bitmap = 0;
  int64_t padded_values = 0;
  int64_t code_words = 0;
  double fp16_share = 0;
  double int2_tile_share = 0;
  double int2_head_share = 0;
};

// Compresses the keys in all three formats, decompresses where scores are wanted, and compares what
// comes out with the figures. An error only where the server refuses or its answer is malformed.
absl::StatusOr<ReferenceReplay> ReplayReference(const client::CodecClient& codec,
                                                const ReferenceInput& input);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_REPLAY_REFERENCE_H_
