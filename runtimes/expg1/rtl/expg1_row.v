// The row engine of SMM: one code walks its set bits, most significant first; each set bit adds a row of weights,
// shifted, to a row of accumulators. A bit that is not set costs no cycle of the adders, only one of the scan.
module expg1_row #(
    parameter LANES = 4,
    parameter WBITS = 32,   // weight or held code, two's complement
    parameter ABITS = 64,   // accumulator
    parameter CBITS = 32,   // code, two's complement
    parameter STEPS = 16    // time-steps
) (
    input  wire                   clk,
    input  wire                   clear,   // start a row of the product
    input  wire                   load,    // take a code and its row of weights
    input  wire [CBITS-1:0]       code,
    input  wire [LANES*WBITS-1:0] row,
    output reg  [LANES*ABITS-1:0] acc,
    output reg                    busy
);
    reg [STEPS-1:0] left;               // bits still to be sent, the next one on top
    reg [5:0] shift;
    reg negative;
    reg [LANES*WBITS-1:0] held;
    wire [CBITS-1:0] magnitude = code[CBITS-1] ? (~code + 1'b1) : code;
    integer lane;
    reg signed [ABITS-1:0] term;

    always @(posedge clk) begin
        if (clear) begin
            acc <= 0;
            busy <= 0;
        end else if (load) begin
            left <= magnitude[STEPS-1:0];
            shift <= STEPS - 1;
            negative <= code[CBITS-1];
            held <= row;
            busy <= 1;
        end else if (busy) begin
            if (left[STEPS-1])
                for (lane = 0; lane < LANES; lane = lane + 1) begin
                    term = {{(ABITS-WBITS){held[lane*WBITS+WBITS-1]}}, held[lane*WBITS +: WBITS]};
                    term = term << shift;
                    acc[lane*ABITS +: ABITS] <= negative
                        ? acc[lane*ABITS +: ABITS] - term
                        : acc[lane*ABITS +: ABITS] + term;
                end
            left <= left << 1;
            shift <= shift - 1'b1;
            busy <= shift != 0;
        end
    end
endmodule
