// FIRE of ExpG-1: counts the thresholds that a potential has reached, by binary search, and looks the code up.
// One comparison a cycle; thresholds ascend. Generic Verilog-2001, no vendor primitives.
module expg1_fire #(
    parameter VBITS = 64,   // potential and thresholds, two's complement
    parameter CBITS = 32,   // code, two's complement
    parameter DEPTH = 5     // rounds: the largest table has 2^DEPTH - 1 thresholds
) (
    input  wire                    clk,
    input  wire                    start,
    input  wire signed [VBITS-1:0] potential,
    input  wire        [DEPTH-1:0] count,      // thresholds in the table
    output reg         [DEPTH-1:0] index,      // threshold wanted, from 0
    input  wire signed [VBITS-1:0] threshold,  // answer, in the same cycle
    output reg         [DEPTH-1:0] place,      // thresholds reached so far
    output reg                     done
);
    reg [DEPTH-1:0] half;
    wire [DEPTH:0] wanted = {1'b0, place} + {1'b0, half};
    wire inside = wanted <= {1'b0, count};
    wire reached = inside && (potential >= threshold);
    wire [DEPTH-1:0] moved = reached ? wanted[DEPTH-1:0] : place;
    wire [DEPTH-1:0] next_half = half >> 1;
    wire [DEPTH:0] next = {1'b0, moved} + {1'b0, next_half};

    always @(posedge clk) begin
        if (start) begin
            place <= 0;
            half <= {1'b1, {(DEPTH-1){1'b0}}};
            index <= {1'b1, {(DEPTH-1){1'b0}}} - 1'b1;
            done <= 0;
        end else if (!done) begin
            place <= moved;
            half <= next_half;
            index <= next[DEPTH-1:0] - 1'b1;
            done <= next_half == 0;
        end
    end
endmodule
